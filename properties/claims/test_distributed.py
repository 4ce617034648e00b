"""Several processes on torch's own engines: two train as one, only the adapter's gradients travel, the file
is the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch.distributed as dist
from hypothesis import strategies as st
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.parallel import DistributedDataParallel

import lora_lite as ll
from properties.judging.assertions import Violation, assert_holds, assert_refuses
from properties.judging.claim import claim
from properties.judging.files import saved
from properties.judging.two_processes import check_trained
from properties.subjects.pair import asked, folder
from properties.subjects.processes import (
    ENGINES,
    MODEL,
    adapted,
    fully_sharded,
    save_nowhere,
    save_stage,
    train,
    train_apart,
)


@pytest.mark.distributed
@claim(st.just, stage="engine", needs=("processes",), capability="DDP", slow=True, subject="lora_lite")
def test_two_processes_train_as_one_under_ddp(variant: str) -> None:
    """DistributedDataParallel: each has the whole model and half of the batch."""
    check_trained(folder(), "DDP", variant, asked(train, "DDP", variant))


@pytest.mark.distributed
@claim(st.just, stage="engine", needs=("processes",), capability="FSDP2", slow=True, subject="lora_lite")
def test_two_processes_train_as_one_under_fsdp2(variant: str) -> None:
    """fully_shard: each has half of the model and half of the batch."""
    check_trained(folder(), "FSDP2", variant, asked(train, "FSDP2", variant))


@pytest.mark.distributed
@claim(stage="engine", needs=("processes",), slow=True, subject="lora_lite")
def test_processes_that_attached_from_seeds_of_their_own_are_refused() -> None:
    """fully_shard would stitch their adapters together; save says so in every process."""
    wanted = "TargetError: the processes hold adapters that differ"
    for rank, found in enumerate(asked(train_apart)):
        error = found.get("error", "no error")
        assert_holds(wanted in error, claim=f"save in process {rank} ended with {error}, wanted {wanted}")


@pytest.mark.distributed
@claim(stage="engine", needs=("processes",), slow=True, subject="lora_lite")
def test_every_stage_of_a_pipeline_writes_its_own_file() -> None:
    """The first process of those that share a model writes, whatever number it has among all."""
    wrote = [found.get("wrote", False) for found in asked(save_stage)]
    assert_holds(all(wrote), claim=f"by stage, wrote a file: {wrote}, wanted each")


@pytest.mark.distributed
@claim(stage="engine", needs=("processes",), slow=True, subject="lora_lite")
def test_a_file_that_cannot_be_written_fails_in_every_process() -> None:
    """Not only in the one that writes."""
    for rank, found in enumerate(asked(save_nowhere)):
        error = found.get("error", "no error")
        assert_holds(
            "FileNotFoundError" in error,
            claim=f"save in process {rank} ended with {error}, wanted a FileNotFoundError",
        )


@contextmanager
def one_process() -> Iterator[None]:
    """A process group of this process alone, in which models can be wrapped and sharded."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dist.destroy_process_group()


@claim(stage="engine", needs=("processes",), subject="lora_lite")
def test_a_model_that_is_split_already_takes_no_adapter() -> None:
    """Its engine would not synchronise it. Refused at attach and at load, by the name of what is split."""
    plain, _ = adapted("lora")
    with saved(plain) as path, one_process():
        ddp = DistributedDataParallel(MODEL.build())
        for split, model, match in (
            (
                "a model inside DistributedDataParallel",
                ddp,
                "the model: DistributedDataParallel is around it already. .* Attach or load first",
            ),
            (
                "a model with a part inside DistributedDataParallel",
                nn.Sequential(ddp),
                "^0: DistributedDataParallel is around",
            ),
            (
                "a model after fully_shard",
                fully_sharded(MODEL.build()),
                r"^layers.0.norm.weight: sharded already, by fully_shard .* Attach or load first",
            ),
        ):
            before = [(name, id(p), p.requires_grad) for name, p in model.named_parameters()]
            with assert_refuses(ll.TargetError, match, claim=f"attach to {split}"):
                ll.attach(model, ll.LoRAConfig(r=2))
            with assert_refuses(ll.TargetError, match, claim=f"load onto {split}"):
                ll.load(model, path)
            after = [(name, id(p), p.requires_grad) for name, p in model.named_parameters()]
            found = f"a refused attach and load changed parameters or flags of {split}"
            assert_holds(after == before, claim=found)


@claim(stage="engine", needs=("processes",), subject="lora_lite")
def test_a_split_model_saves_the_same_file() -> None:
    """Byte for byte what the plain model saves; and where it is sharded, from the first process alone."""
    for engine in ENGINES:
        model, _ = adapted("delora")
        with saved(model) as path, one_process():
            whole = path.read_bytes()
            wrapped = ENGINES[engine].wrap(model)
            path.unlink()
            try:
                ll.save(wrapped, path)
            except ll.LoraLiteError as error:
                raise Violation(f"{engine}: save is refused with {error}") from error
            found = f"{engine}: the file that the split model saves is not the plain model's"
            assert_holds(path.read_bytes() == whole, claim=found)
            path.unlink()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(DeviceMesh, "get_coordinate", lambda mesh: [1])
                ll.save(wrapped, path)
            wrote, wanted = path.exists(), engine == "DDP"
            found = f"{engine}: the second process {'wrote' if wrote else 'did not write'} a file"
            assert_holds(wrote == wanted, claim=f"{found}, wanted {'one' if wanted else 'none'} of it")
