"""Several processes on torch's own engines: two train as one, only the adapter's gradients travel, the file
is the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.parallel import DistributedDataParallel

import lora_lite as ll
from properties.judging.assertions import Violation, assert_all_identical, assert_holds, assert_refuses
from properties.judging.capabilities import capability
from properties.judging.claim import fact, reported
from properties.judging.files import saved
from properties.subjects.lora_lite import implementation
from properties.subjects.processes import (
    APART,
    ENGINES,
    MODEL,
    MUTANTS,
    NOWHERE,
    PROCESSES,
    STAGES,
    STEPS,
    adapted,
    fully_sharded,
    launch,
    place,
    shares,
    step,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Two processes trained every variant under every engine: where the files lie, and what each of them
    reported.
    """
    folder = tmp_path_factory.mktemp("distributed")
    return folder, launch(folder)


def check_trained(folder: Path, engine: str, variant: str, found: list[dict[str, Any]]) -> None:
    """The processes agree; the file loads in one process and holds what one learns from the whole batch, bit
    for bit.
    """
    for rank, own in enumerate(found):
        assert_holds("error" not in own, claim=f"{engine}: process {rank} failed with\n{own.get('error')}")
        sent, wanted = own["sent"], own["own"]
        assert_holds(
            sent == wanted, claim=f"{engine}: {sent} bytes of gradients travelled, the adapter's are {wanted}"
        )
    digests = {own["digest"] for own in found}
    assert_holds(len(digests) == 1, claim=f"{engine}: the processes' parameters have the digests {digests}")
    check_files(folder, engine, variant)
    model, adapter = adapted(variant)
    for number in range(STEPS):
        step(model, adapter, shares(number))
    fresh = MODEL.build()
    try:
        implementation.load(fresh, place(folder, engine, variant, 0))
    except ll.LoraLiteError as error:
        raise Violation(f"{engine}: what the first process saved does not load: {error}") from error
    wanted, got = implementation.tensors(model), implementation.tensors(fresh)
    for target, tensors in wanted.items():
        assert_all_identical(
            got[target], tensors, claim=f"{engine}: {target} after {STEPS} steps in two processes"
        )


def check_files(folder: Path, engine: str, variant: str) -> None:
    """Those that should have written did, and the same."""
    paths = [place(folder, engine, variant, rank) for rank in range(PROCESSES)]
    wrote = [path.exists() for path in paths]
    wanted = [rank < ENGINES[engine].writers for rank in range(PROCESSES)]
    assert_holds(wrote == wanted, claim=f"{engine}: by process, wrote a file: {wrote}, wanted {wanted}")
    files = {path.read_bytes() for path in paths if path.exists()}
    assert_holds(len(files) == 1, claim=f"{engine}: the processes wrote files that differ")


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("engine", ENGINES)
def test_two_processes_train_as_one(
    engine: str, variant: str, trained: tuple[Path, list[dict[str, Any]]], request: pytest.FixtureRequest
) -> None:
    folder, reports = trained
    with (
        reported(f"two_processes_train_as_one_{engine}", variant, request) as meter,
        capability(request, variant, engine),
    ):
        meter.examples = STEPS
        check_trained(folder, engine, variant, [found[engine][variant] for found in reports])


def _built_in(variant: type[ll.Variant]) -> bool:
    """The launched processes know no others."""
    return variant.__module__.startswith("lora_lite.")


test_two_processes_train_as_one.applies = _built_in  # read by the plugin


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.mutation
@pytest.mark.parametrize(
    ("mutant", "match"), [*zip(MUTANTS, ("adapters that differ", "process 1 failed"), strict=True)]
)
def test_a_mutant_that_shows_in_two_processes_is_noticed(
    mutant: str, match: str, trained: tuple[Path, list[dict[str, Any]]]
) -> None:
    folder, reports = trained
    with pytest.raises(Violation, match=match):
        check_trained(folder / mutant, MUTANTS[mutant], "lora", [found[mutant]["lora"] for found in reports])


@pytest.mark.slow
@pytest.mark.distributed
def test_processes_that_attached_from_seeds_of_their_own_are_refused(
    trained: tuple[Path, list[dict[str, Any]]],
) -> None:
    """fully_shard would stitch their adapters together; save says so in every process."""
    _, reports = trained
    for found in reports:
        assert "TargetError: the processes hold adapters that differ" in found[APART]["delora"].get(
            "error", "no error"
        )


@pytest.mark.slow
@pytest.mark.distributed
def test_every_stage_of_a_pipeline_writes_its_own_file(trained: tuple[Path, list[dict[str, Any]]]) -> None:
    """The first process of those that share a model writes, whatever number it has among all."""
    folder, _ = trained
    assert [place(folder, STAGES, "lora", rank).exists() for rank in range(PROCESSES)] == [True] * PROCESSES


@pytest.mark.slow
@pytest.mark.distributed
def test_a_file_that_cannot_be_written_fails_in_every_process(
    trained: tuple[Path, list[dict[str, Any]]],
) -> None:
    """Not only in the one that writes."""
    _, reports = trained
    for found in reports:
        assert "FileNotFoundError" in found[NOWHERE]["lora"].get("error", "no error")


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
            (
                fully_sharded(MODEL.build()),
                r"^layers.0.norm.weight: sharded already, by fully_shard .* Attach or load first",
            ),
        ):
            before = [
                (name, id(parameter), parameter.requires_grad) for name, parameter in model.named_parameters()
            ]
            for call in (
                lambda model=model: ll.attach(model, ll.LoRAConfig(r=2)),
                lambda model=model: ll.load(model, path),
            ):
                with assert_refuses(ll.TargetError, match, claim="an adapter on a split model"):
                    call()
            after = [
                (name, id(parameter), parameter.requires_grad) for name, parameter in model.named_parameters()
            ]
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
            assert_holds(
                path.read_bytes() == whole, claim=f"{engine}: the file differs from that of the plain model"
            )
            path.unlink()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(DeviceMesh, "get_coordinate", lambda mesh: [1])
                ll.save(wrapped, path)
            assert_holds(
                path.exists() == (engine == "DDP"), claim=f"{engine}: the second process wrote, or did not"
            )
