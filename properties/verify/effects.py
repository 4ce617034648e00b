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
    """Of one layer, over all batches: norms of the base's output and of the change, calls, d_in and dtype."""

    base: float = 0.0
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
            hook = layer.register_forward_hook(_watcher(engine, name, seen[name]), with_kwargs=True)
            stack.callback(hook.remove)
        return seen, outputs(engine.model, base.batches)


def _watcher(engine: Engine, name: str, seen: Seen) -> Callable[..., None]:
    inside = False

    def hook(layer: nn.Module, args: Any, kwargs: Any, y: Any) -> None:
        nonlocal inside
        if inside or not isinstance(y, Tensor) or not y.numel():
            return
        inside = True
        engine.switch(name, False)
        try:
            plain = layer(*args, **kwargs)
        finally:
            engine.switch(name, True)
            inside = False
        given = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        seen.calls += 1
        seen.width, seen.dtype = given.shape[-1], y.dtype
        seen.base = math.hypot(seen.base, float(plain.double().norm()))
        seen.change = math.hypot(seen.change, float((y.double() - plain.double()).norm()))

    return hook


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
        weight.mul_(2)
        try:
            return change(outputs(engine.model, base.batches), before) != 0
        finally:
            weight.copy_(kept)
