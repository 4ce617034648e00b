"""Whether what a layer's adapter does is more than its own numbers' rounding, told in float64."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from properties.judging.tolerance import SAFETY, unit_roundoff
from properties.verify.bases import Base, outputs
from properties.verify.engines import Engine
from properties.verify.kept import perturbed

PROBES = 4


@torch.no_grad()
def within_rounding(name: str, engine: Engine, base: Base) -> bool:
    """Whether the layer's change is no larger than what rounding makes of it where the adapter is at init:
    HRA's reflections that cancel, say, or DoRA's magnitudes that are the lengths of W's rows.

    In float64 the layer's own dtype has no say, so that a small change of a bfloat16 layer counts. What is
    left is that the adapter's numbers were stored once in the file's dtype, after a chain of roundings in
    float32.
    """
    size = max(SAFETY * unit_roundoff(torch.float32), unit_roundoff(engine.file.dtype))
    layer, tensors, given = engine.layers[name], engine.tensors(name), _given(name, engine, base)
    on = _results(layer, given)
    engine.switch(name, False)
    try:
        off = _results(layer, given)
    finally:
        engine.switch(name, True)
    squares = 0.0
    for seed in range(PROBES):
        with perturbed(tensors, seed, size):
            squares += float((_results(layer, given) - on).square().sum())
    rest = SAFETY * torch.finfo(torch.float64).eps * float(off.norm())
    return float((on - off).norm()) <= math.sqrt(squares / PROBES) + rest


def _given(name: str, engine: Engine, base: Base) -> list[tuple[Any, Any]]:
    """What the layer is called with."""
    given: list[tuple[Any, Any]] = []

    def before(layer: nn.Module, args: Any, kwargs: Any) -> None:
        given.append((args, kwargs))

    # Before lora_lite's own hook, which may change what the layer is given.
    hook = engine.layers[name].register_forward_pre_hook(before, with_kwargs=True, prepend=True)
    try:
        outputs(engine.model, base.batches)
    finally:
        hook.remove()
    return given


def _results(layer: nn.Module, given: list[tuple[Any, Any]]) -> Tensor:
    """What the layer gives as it is now, in float64; lora_lite's hooks of a copy are the layer's own."""

    def wide(value: Any) -> Any:
        return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

    twin = copy.deepcopy(layer).double()
    results = [twin(*map(wide, args), **{k: wide(v) for k, v in kwargs.items()}) for args, kwargs in given]
    return torch.cat([y.double().flatten() for y in results])
