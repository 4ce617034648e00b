"""Noticing that a base weight is no longer the one that an adapter started from.

Norms, singular vectors and calibrated directions are of the weight that was there at attach or load. Weights
that are loaded or replaced afterwards leave them behind, and nothing else would show it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from lora_lite.linear import plain_weight, read_weight, turned, weight_of
from lora_lite.names import CHILD
from lora_lite.norms import Axis, joined, measured, norms_of, rows_at_once
from lora_lite.parallel import is_sharded

PROBES = 8
ACROSS: dict[Axis, Axis] = {"rows": "columns", "columns": "rows"}
# How finely the weights of a projection are drawn: they are exact in any dtype.
FINE = 2**10
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


@dataclass(frozen=True)
class Look:
    """What one pass over a weight tells: its sketch, None where it has none; its norms along an axis, where
    they were asked for; and whether it has shown that all of its numbers are finite.
    """

    sketch: Sketch | None
    norms: Tensor | None = None
    finite: bool = False

    def holds(self, layer: nn.Module) -> bool:
        """Whether nothing has written to the layer's weight since, as far as that shows."""
        return self.sketch is None or self.sketch.stamp == _stamp(layer)


def sketch_for(layer: nn.Module, module: Any) -> Sketch | None:
    """What its adapter remembers of the layer's weight: nothing where it has not started from that."""
    return sketch_of(layer) if module.reads_weight or module.needs_calibration else None


def sketch_of(layer: nn.Module) -> Sketch | None:
    """Of the weight as it is now; None of one that cannot be looked at: quantised in a way of its own, or
    split over processes.
    """
    return look(layer).sketch


def look(layer: nn.Module, axis: Axis | None = None) -> Look:
    """At a layer's weight, once. axis: of the norms that are wanted. Raises as read_weight where they are."""
    # A second look at a parametrised weight may differ; of one on its way through a transform there is none.
    through = is_sharded(weight_of(layer)) or torch._C._functorch.peek_interpreter_stack() is not None
    if through or (plain := plain_weight(layer)) is None or plain.is_meta:
        return Look(None, norms_of(read_weight(layer), axis) if axis else None)
    W = turned(layer, plain.detach())
    projections, size, norms = _pass(W, axis if W.dtype != torch.float64 else None)
    if axis and norms is None:
        norms = norms_of(W, axis)
    sketch = Sketch(projections, size, torch.finfo(W.dtype).eps, _stamp(layer))
    return Look(sketch, norms, math.isfinite(size))


def _pass(W: Tensor, axis: Axis | None) -> tuple[tuple[float, ...], float, Tensor | None]:
    """The projections of a weight, its norm, and its norms along an axis, a block of rows at a time.

    Rows are folded: of every PROBES that follow each other, each goes into a sum of its own. So there are
    PROBES sums a column for one product a number; where the rows do not come out even, for more.
    """
    if W.stride(0) < W.stride(1):
        # As it lies in memory: to turn it takes longer than the pass.
        return _pass(W.mT, axis and ACROSS[axis])
    rows, columns = W.shape
    fold = math.gcd(PROBES, rows)
    left, right = _weights(rows // fold, W.device)[: PROBES // fold], _weights(columns, W.device)
    step = max(1, rows_at_once(W) // fold)
    sums = left.new_zeros(len(left), fold * columns)

    def blocks() -> Iterator[Tensor]:
        for first in range(0, rows // fold, step):
            wide = W[fold * first : fold * (first + step)].double()
            sums.addmm_(left[:, first : first + step], wide.reshape(-1, fold * columns))
            yield measured(wide, axis)
            del wide  # before the next block takes as much

    norms = joined(blocks(), axis)
    projections = (sums.view(PROBES, columns) @ right.mT).flatten().tolist()
    return tuple(projections), torch.linalg.vector_norm(norms).item(), norms if axis else None


def _weights(count: int, device: torch.device) -> Tensor:
    """(PROBES, count) of numbers from 1 to 2 of either sign, the same for a count, and nothing taken from
    torch's own generator.
    """
    weights = _drawn(count, device)
    if type(weights) is not Tensor:
        # What a mode that only pretends has drawn is nothing to remember.
        _drawn.cache_clear()
    return weights


# Remembered: to draw them takes as long as to look at the weight, and a model has few widths.
@lru_cache(maxsize=16)
def _drawn(count: int, device: torch.device) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(count)
    drawn = torch.randint(-FINE, FINE, (PROBES, count), generator=generator, device="cpu")
    # None is small, so that no number of the weight counts for little; few are alike, so that no two may
    # change places.
    weights = torch.where(drawn < 0, drawn - FINE, drawn + FINE) / FINE
    return weights.to(device=device, dtype=torch.float64)


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
