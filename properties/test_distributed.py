"""Several processes on torch's own engines: two train as one, only the adapter's gradients travel, the file is the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lora_lite as ll
from properties.assertions import Violation, assert_all_identical, assert_holds, assert_refuses
from properties.capabilities import capability
from properties.distributed_worker import ENGINES, MODEL, MUTANT, STEPS, adapted, fully_sharded, launch, place, shares, step
from properties.files import saved
from properties.implementation import implementation
from properties.registry import fact, reported


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Two processes trained every variant under every engine: where the files lie, and what was reported."""
    folder = tmp_path_factory.mktemp("distributed")
    return folder, launch(folder)


def check_trained(folder: Path, engine: str, variant: str, found: dict[str, Any]) -> None:
    """The file loads in one process and holds what one process learns from the whole batch, bit for bit."""
    if "error" in found:
        raise Violation(f"{engine}: a process failed with\n{found['error']}")
    model, adapter = adapted(variant)
    for number in range(STEPS):
        step(model, adapter, shares(number))
    fresh = MODEL.build()
    try:
        implementation.load(fresh, place(folder, engine, variant))
    except ll.LoraLiteError as error:
        raise Violation(f"{engine}: what the first process saved does not load: {error}") from error
    wanted, got = implementation.tensors(model), implementation.tensors(fresh)
    for target, tensors in wanted.items():
        assert_all_identical(got[target], tensors, claim=f"{engine}: {target} after {STEPS} steps in two processes")
    sent, own = found["sent"], found["own"]
    assert_holds(sent == own, claim=f"{engine}: {sent} bytes of gradients travelled, the adapter's are {own}")


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("engine", ENGINES)
def test_two_processes_train_as_one(
    engine: str, variant: str, trained: tuple[Path, dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    folder, report = trained
    with reported(f"two_processes_train_as_one_{engine}", variant, request) as meter, capability(request, variant, engine):
        meter.examples = STEPS
        check_trained(folder, engine, variant, report[engine][variant])


def _built_in(variant: type[ll.Variant]) -> bool:
    """The launched processes know no others."""
    return variant.__module__.startswith("lora_lite.")


test_two_processes_train_as_one.applies = _built_in  # read by the plugin


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.mutation
def test_a_share_in_place_of_the_whole_is_noticed(trained: tuple[Path, dict[str, Any]]) -> None:
    """The one mutant that shows in two processes alone."""
    folder, report = trained
    with pytest.raises(Violation, match="adapters that differ"):
        check_trained(folder / MUTANT, "FSDP2", "lora", report[MUTANT]["lora"])


@contextmanager
def one_process() -> Iterator[None]:
    """A process group of this process alone, in which models can be wrapped and sharded."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dist.destroy_process_group()


@fact
def test_a_model_that_is_split_already_takes_no_adapter() -> None:
    """Its engine would not synchronise it. Refused at attach and at load, by the name of what is split."""
    plain, _ = adapted("lora")
    with saved(plain) as path, one_process():
        around = nn.Sequential(DistributedDataParallel(MODEL.build()))
        for model, match in (
            (around[0], "the model: DistributedDataParallel is around it already. .* Attach or load first"),
            (around, "^0: DistributedDataParallel is around"),
            (fully_sharded(MODEL.build()), r"^layers.0.norm.weight: sharded already, by fully_shard .* Attach or load first"),
        ):
            before = [(name, id(parameter), parameter.requires_grad) for name, parameter in model.named_parameters()]
            for call in (lambda model=model: ll.attach(model, ll.LoRAConfig(r=2)), lambda model=model: ll.load(model, path)):
                with assert_refuses(ll.TargetError, match, claim="an adapter on a split model"):
                    call()
            after = [(name, id(parameter), parameter.requires_grad) for name, parameter in model.named_parameters()]
            assert_holds(after == before, claim="a refused adapter left parameters or flags on a split model")


@fact
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
            assert_holds(path.read_bytes() == whole, claim=f"{engine}: the file differs from that of the plain model")
            path.unlink()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(dist, "get_rank", lambda: 1)
                ll.save(wrapped, path)
            assert_holds(path.exists() == (engine == "DDP"), claim=f"{engine}: the second process wrote, or did not")
