"""Noticing that a base weight is no longer the one that an adapter started from.

Norms, singular vectors and calibrated directions are of the weight that was there at attach or load. Weights
that are loaded or replaced afterwards leave them behind, and nothing else would show it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lora_lite.linear import has_plain_weight, read_weight, weight_of
from lora_lite.names import CHILD
from lora_lite.parallel import is_sharded

PROBES = 8
ROWS_AT_ONCE = 1024
# Roundings of the whole that are no change: of a cast, or of sums on another device.
ROUNDINGS = 8


@dataclass
class Sketch:
    """A few random projections of a weight, its size, how coarsely it has been stored, and by what it is told
    that nothing wrote to it. first: of the weight at attach, where it has been trained along since.
    """

    numbers: tuple[float, ...]
    size: float
    eps: float
    stamp: tuple[Any, ...]
    first: "Sketch | None" = None

    def off(self, now: "Sketch") -> float:
        """The largest change of a projection."""
        return max(abs(a - b) for a, b in zip(self.numbers, now.numbers, strict=True))


def sketch_of(layer: nn.Module) -> Sketch | None:
    """Of the weight as it is now; None of one that cannot be looked at: quantised in a way of its own, or
    split over processes.
    """
    # A second look at a parametrised weight may differ; of one on its way through a transform there is none.
    if is_sharded(weight := weight_of(layer)) or torch._C._functorch.peek_interpreter_stack() is not None:
        return None
    if not has_plain_weight(layer) or weight.is_meta:
        return None
    W = read_weight(layer)
    left, right = _signs(W.shape[0], W.device), _signs(W.shape[1], W.device)
    total = torch.zeros(PROBES, dtype=torch.float64, device=W.device)
    size = torch.zeros((), dtype=torch.float64, device=W.device)
    for at in range(0, len(W), ROWS_AT_ONCE):
        rows = W[at : at + ROWS_AT_ONCE].double()
        total += ((left[:, at : at + ROWS_AT_ONCE] @ rows) * right).sum(1)
        size += rows.square().sum()
    return Sketch(tuple(total.tolist()), size.sqrt().item(), torch.finfo(W.dtype).eps, _stamp(layer))


def _signs(count: int, device: torch.device) -> Tensor:
    """(PROBES, count) of ±1, the same for a count, and nothing taken from torch's own generator."""
    generator = torch.Generator("cpu").manual_seed(count)
    drawn = torch.randint(0, 2, (PROBES, count), generator=generator, device="cpu")
    return (2 * drawn - 1).to(device=device, dtype=torch.float64)


def _stamp(layer: nn.Module) -> tuple[Any, ...]:
    """Another one once something wrote to the layer's tensors, or put others in their place."""
    held = [*layer._parameters.values()]
    for name, child in layer._modules.items():
        if child is not None and name != CHILD:
            held += [*child.parameters(), *child.buffers()]  # type: ignore[list-item]  # tensors, all of them
    return tuple(_told(tensor) for tensor in held if tensor is not None)


def _told(tensor: Tensor) -> tuple[int, int, int]:
    # Casts and some engines put other memory under the same tensor, which counts no version.
    place = tensor.data_ptr() if type(tensor) in (Tensor, nn.Parameter) else 0
    return id(tensor), 0 if tensor.is_inference() else tensor._version, place


def changed(layer: nn.Module, module: Any, *, thoroughly: bool = False) -> str | None:
    """How far the weight is from that at attach, in words; None where it is the same to the rounding of the
    casts that it has seen. A weight that the user has thawed may train.

    thoroughly: look at the numbers also where nothing shows that they were written to, as through `.data`.
    """
    kept: Sketch | None = vars(module).get("sketch")
    if kept is None or (kept.stamp == _stamp(layer) and not thoroughly):
        return None
    now = sketch_of(layer)
    weight = weight_of(layer)
    if now is None:
        return None
    now.eps, first = max(kept.eps, now.eps), kept.first or kept
    # What was trained along may be put back as it was.
    for known in (kept, first):
        off, bound = known.off(now), ROUNDINGS * now.eps * max(known.size, now.size)
        if off <= bound:
            module.__dict__["sketch"] = Sketch(known.numbers, known.size, now.eps, now.stamp, known.first)
            module.__dict__["renewed"] = False
            return None
    if module.renewed or weight.requires_grad:
        now.first = None if module.renewed else first
        module.__dict__["sketch"] = now
        module.__dict__["renewed"] = False
        return None
    return f"off by {kept.off(now) / (kept.size or 1):.2g} of its size"
