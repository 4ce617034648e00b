"""What each of two processes does: train a variant under one of torch's own engines, on its half of a batch.

Nothing here is a test. What comes out lies in a folder, each adapter as each process saved it, and in what
each process returns.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import lora_lite as ll
from properties.subjects.attaching import seed_inits
from properties.subjects.pair import PROCESSES
from strategies import BlockRecipe, NestedRecipe, gaussian
from strategies.layers import calibration_batches
from strategies.options import build_config, ranks, simplest

STEPS = 3
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
    """One step of plain gradient descent on the mean of the batches' losses, of RATE in any entry at most:
    with a strong adapter a longer one diverges.
    """
    for x in batches:
        (model(x).square().mean() / len(batches)).backward()
    gradients = [whole(p.grad) for p in adapter.parameters() if p.grad is not None]
    largest = max((float(gradient.abs().max()) for gradient in gradients), default=0.0)
    optimiser = torch.optim.SGD(adapter.parameters(), lr=RATE * min(1.0, 2.0 ** -math.frexp(largest)[1]))
    optimiser.step()
    optimiser.zero_grad()


def whole(tensor: Any) -> Tensor:
    """All of a tensor that may be sharded. Every process has to ask."""
    found: Tensor = getattr(tensor, "full_tensor", lambda: tensor)().detach()
    return found


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


def save_stage(rank: int, folder: Path) -> dict[str, Any]:
    """Shard a model over a mesh of this process alone, as stages of a pipeline do, and save it."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (PROCESSES, 1), mesh_dim_names=("stage", "share"))["share"]
    model, _ = adapted("lora")
    fully_shard(model, mesh=mesh)
    path = place(folder, "stage", "lora", rank)
    ll.save(model, path)
    return {"wrote": path.exists()}


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
    tensors: list[Any] = [whole(parameter) for parameter in adapter.parameters()]
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


def train(rank: int, folder: Path, engine: str, variant: str, seed: int = 0) -> dict[str, Any]:
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


def save_nowhere(rank: int, folder: Path) -> dict[str, Any]:
    """As train, of lora under FSDP2, into a folder that is not there."""
    return train(rank, folder / "no such folder", "FSDP2", "lora")


def train_apart(rank: int, folder: Path) -> dict[str, Any]:
    """As train, of delora under FSDP2, where each process attaches from a seed of its own."""
    return train(rank, folder, "FSDP2", "delora", seed=rank)
