"""What each of two processes does: train every variant under torch's own engines, on
its half of a batch.

Nothing here is a test. What comes out lies in a folder: each adapter as each process saved it, and a report
of each process.
"""

import atexit
import hashlib
import importlib
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import lora_lite as ll
from properties.subjects.attaching import seed_inits
from strategies import BlockRecipe, NestedRecipe, gaussian
from strategies.layers import calibration_batches
from strategies.options import build_config, ranks, simplest

PROCESSES = 2
STEPS = 3
# What shows in two processes alone, and under which engine.
MUTANTS = {"save_writes_one_share": "FSDP2", "save_fails_but_in_the_first_process": "DDP"}
# The run in which each process attaches from a seed of its own.
APART = "another seed each"
# The run in which each process shards a model of its own, as stages of a pipeline do.
STAGES = "a stage each"
# The run whose files have no folder to lie in.
NOWHERE = "no such folder"
# A process that waits this long for another one gives up, and spawn ends them all.
PATIENCE = timedelta(seconds=60)
# A power of two: the step is the same whether or not product and sum are rounded as one.
RATE = 2.0**-4
MODEL = NestedRecipe(
    blocks=(BlockRecipe(width=8, inner=12, bias=True), BlockRecipe(width=8, inner=6)), container="layers"
)


def adapted(variant: str, seed: int = 0) -> tuple[nn.Module, ll.Adapter]:
    """The same model with the same adapter, moved away from init, in every process."""
    options = simplest(variant)
    rank = next((r for r in (4, 2) if r in ranks(variant, 8, 6, options)), None)
    model = MODEL.build()
    data = calibration_batches(0, 8, torch.float32) if ll.VARIANTS[variant].needs_calibration else None
    seed_inits(seed)
    config = build_config(
        variant, options if rank is None else (*options, ("r", rank)), exclude_names=("readout",)
    )
    adapter = ll.attach(model, config, data)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            parameter.add_(gaussian(0, name, tuple(parameter.shape)) / 8)
    return model, adapter


def shares(seed: int = 0) -> list[Tensor]:
    """What each process reads: (3, 2, 8) of a batch."""
    return list(gaussian(seed, "batch", (3 * PROCESSES, 2, 8)).chunk(PROCESSES))


def step(model: nn.Module, adapter: ll.Adapter, batches: list[Tensor]) -> None:
    """One step of plain gradient descent on the mean of the batches' losses."""
    optimiser = torch.optim.SGD(adapter.parameters(), lr=RATE)
    for x in batches:
        (model(x).square().mean() / len(batches)).backward()
    optimiser.step()
    optimiser.zero_grad()


class Traffic(TorchDispatchMode):
    """Counts the bytes that this process gives into reductions: the gradients that travel."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d" and "reduce" in func.__name__:
            # allreduce_(tensors, …), but _reduce_scatter_base_(output, input, …)
            given = args[1] if "scatter" in func.__name__ else args[0]
            self.bytes += sum(tensor.nbytes for tensor in tree_leaves(given) if isinstance(tensor, Tensor))
        return func(*args, **kwargs or {})


def fully_sharded(model: nn.Module) -> nn.Module:
    """fully_shard on each block and on the whole."""
    from torch.distributed.fsdp import fully_shard

    for block in model.layers:  # type: ignore[union-attr]  # MODEL's container
        fully_shard(block)
    fully_shard(model)
    return model


def save_stage(rank: int, folder: Path) -> None:
    """Shard a model over a mesh of this process alone, one of as many as there are processes, and save it."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (PROCESSES, 1), mesh_dim_names=("stage", "share"))["share"]
    model, _ = adapted("lora")
    fully_shard(model, mesh=mesh)
    ll.save(model, place(folder, STAGES, "lora", rank))


def padded(parameter: Tensor) -> int:
    """Bytes of a parameter whose first dimension is filled up, so that it can be split evenly."""
    return parameter.nbytes // len(parameter) * PROCESSES * -(-len(parameter) // PROCESSES)


@dataclass(frozen=True)
class Engine:
    """How a model is split, how many bytes of a parameter's gradient travel, and how many processes save
    writes in.
    """

    wrap: Callable[[nn.Module], nn.Module]
    bytes: Callable[[Tensor], int]
    writers: int


ENGINES = {
    "DDP": Engine(DistributedDataParallel, lambda parameter: parameter.nbytes, PROCESSES),
    "FSDP2": Engine(fully_sharded, padded, 1),
}


def place(folder: Path, engine: str, variant: str, rank: int) -> Path:
    """Where the adapter lies that was trained so, as this process saved it."""
    return folder / f"{engine}-{variant}-{rank}.safetensors"


def digest(adapter: ll.Adapter) -> str:
    """Of all its parameters, whole. Every process has to ask."""
    whole: list[Any] = [getattr(p, "full_tensor", lambda p=p: p)().detach() for p in adapter.parameters()]
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in whole)).hexdigest()


def train(engine: str, variant: str, rank: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Three steps on this process's share, then save; the bytes sent, and those of the adapter's gradients
    alone.
    """
    model, adapter = adapted(variant, seed)
    own = sum(map(ENGINES[engine].bytes, adapter.parameters()))
    wrapped = ENGINES[engine].wrap(model)
    with Traffic() as traffic:
        for number in range(STEPS):
            step(wrapped, adapter, [shares(number)[rank]])
    ll.save(wrapped, place(folder, engine, variant, rank))
    return {"sent": traffic.bytes, "own": own * STEPS, "digest": digest(adapter)}


def work(rank: int, folder: str, modules: tuple[str, ...]) -> None:
    """What each process runs: every variant under every engine, and one of them with each of MUTANTS
    inside.
    """
    torch.set_num_threads(1)
    for module in modules:
        importlib.import_module(module)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=PROCESSES, timeout=PATIENCE)
    found = {
        engine: {variant: attempt(engine, variant, rank, Path(folder)) for variant in ll.VARIANTS}
        for engine in ENGINES
    }
    # Only wanted here: what is judged knows nothing of mutants.
    from properties.mutation import load_catalogue

    for mutant, engine in MUTANTS.items():
        with load_catalogue()[mutant].injected():
            found[mutant] = {"lora": attempt(engine, "lora", rank, Path(folder) / mutant)}
    found[APART] = {"delora": attempt("FSDP2", "delora", rank, Path(folder) / APART, seed=rank)}
    found[NOWHERE] = {"lora": attempt("FSDP2", "lora", rank, Path(folder) / NOWHERE)}
    save_stage(rank, Path(folder))
    report(Path(folder), rank).write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()
    leave()


def leave() -> None:
    """End this process at once, with all written.

    gloo's threads live on where a sharded model holds its group, and one that wants the interpreter while it
    is being torn down aborts the process: SIGABRT, "terminate called without an active exception". What
    Python would do at exit is given up.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def report(folder: Path, rank: int) -> Path:
    """Where this process tells what it found, by engine or mutant, and by variant."""
    return folder / f"report-{rank}.json"


def attempt(engine: str, variant: str, rank: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    """train(), or the error that it ended with; the next one begins when all processes are through."""
    try:
        return train(engine, variant, rank, folder, seed)
    except Exception:
        # Here too: where the others wait for this process in vain, nobody writes a report.
        traceback.print_exc()
        return {"error": traceback.format_exc()}
    finally:
        dist.barrier()


def launch(folder: Path) -> list[dict[str, dict[str, dict[str, Any]]]]:
    """Start the processes, wait for them, and read what each of them reports, by engine or mutant, and by
    variant.
    """
    for name in (*MUTANTS, APART):
        (folder / name).mkdir()
    own = {variant.__module__ for variant in ll.VARIANTS.values()}
    spawn(work, (str(folder), tuple(sorted(own))), PROCESSES)  # type: ignore[no-untyped-call]
    return [json.loads(report(folder, rank).read_text(encoding="utf-8")) for rank in range(PROCESSES)]


@cache
def two_processes() -> tuple[Path, list[dict[str, dict[str, dict[str, Any]]]]]:
    """Where the files lie, and what each process reported, of processes that are started once.

    Raises RuntimeError, at every call, where they could not be started or ended with an error.
    """
    if isinstance(launched := _launched(), Exception):
        raise RuntimeError(f"two processes: {launched}") from launched
    return launched


@cache
def _launched() -> tuple[Path, list[dict[str, dict[str, dict[str, Any]]]]] | Exception:
    """A failure is remembered too: each try costs up to PATIENCE."""
    folder = Path(tempfile.mkdtemp(prefix="lora-lite-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        return folder, launch(folder)
    except Exception as error:
        return error
