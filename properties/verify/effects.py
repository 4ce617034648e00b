"""What each layer's adapter does on real activations: to the layer's output, and alone to the model's.

The measure is this command's own and not lora_lite's: it judges lora_lite too.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from properties.verify.bases import Base, change, outputs
from properties.verify.engines import Engine, only
from properties.verify.report import Row


@dataclass
class Seen:
    """Of one layer, over all batches: norms of the base's output, of the adapted one and of the change; how
    many calls, d_in and dtype.
    """

    base: float = 0.0
    adapted: float = 0.0
    change: float = 0.0
    calls: int = 0
    width: int = 0
    dtype: torch.dtype = torch.float32

    @property
    def effect(self) -> float | None:
        if not self.calls:
            return None
        return self.change / self.base if self.base else (math.inf if self.change else 0.0)


def watch(engine: Engine, base: Base) -> tuple[dict[str, Seen], list[Tensor]]:
    """What the layers did while the text was read with all of the adapter on, and what the model gave."""
    seen = {name: Seen() for name in engine.layers}
    with ExitStack() as stack:
        for name, layer in engine.layers.items():
            before, after = _watchers(engine, name, seen[name])
            # Before lora_lite's own hook, which may change what the layer is given.
            first = layer.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
            stack.callback(first.remove)
            stack.callback(layer.register_forward_hook(after).remove)
        return seen, outputs(engine.model, base.batches)


def _watchers(engine: Engine, name: str, seen: Seen) -> tuple[Callable[..., None], Callable[..., None]]:
    """Of a layer: what it is given, and what comes of that with its adapter and without."""
    given: tuple[Any, Any] | None = None
    inside = False

    def before(layer: nn.Module, args: Any, kwargs: Any) -> None:
        nonlocal given
        given = given if inside else (args, kwargs)

    def after(layer: nn.Module, args: Any, y: Any) -> None:
        nonlocal inside
        if inside or given is None or not isinstance(y, Tensor) or not y.numel():
            return
        inside = True
        engine.switch(name, False)
        try:
            plain = layer(*given[0], **given[1])
        finally:
            engine.switch(name, True)
            inside = False
        seen.calls += 1
        seen.width = next(t for t in (*given[0], *given[1].values()) if isinstance(t, Tensor)).shape[-1]
        seen.dtype = y.dtype
        seen.base = math.hypot(seen.base, float(plain.double().norm()))
        seen.adapted = math.hypot(seen.adapted, float(y.double().norm()))
        seen.change = math.hypot(seen.change, float((y.double() - plain.double()).norm()))

    return before, after


def rows(engine: Engine, base: Base, seen: dict[str, Seen]) -> list[Row]:
    """A row a layer, each run once with the others off."""
    made = []
    for name, one in seen.items():
        row = Row(name, one.effect, calls=one.calls)
        if one.calls:
            with only(engine, (name,)):
                row.alone = change(outputs(engine.model, base.batches), base.outputs)
        made.append(row)
    return made


@torch.no_grad()
def is_read(name: str, engine: Engine, base: Base) -> bool:
    """Whether the model uses the base weight of a layer: with another one it gives something else."""
    weight = base.weights.get(f"{name}.weight")
    if weight is None:
        return False
    kept = weight.clone()
    with only(engine, ()):
        before = outputs(engine.model, base.batches)
        try:
            weight.mul_(2)
            return change(outputs(engine.model, base.batches), before) != 0
        finally:
            weight.copy_(kept)
