"""How much the adapters of a model's layers change what these give, on inputs that the model gets."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from operator import setitem
from typing import Any

import torch
from torch import Tensor, nn

from lora_lite.atomic import Step, gradients_as_before
from lora_lite.calibration import streamed
from lora_lite.errors import CalibrationError
from lora_lite.names import CHILD, STATE

BY_ADAPTER = "the adapter makes NaN or Inf of the numbers that the layer gives"
BY_DATA = "the data gives NaN or Inf here, before the adapter"


class Sizes:
    """The norms of a layer's own output and of what its adapter changes there, over all that it was given."""

    def __init__(self) -> None:
        self.base: Tensor | None = None
        self.change: Tensor | None = None

    def add(self, base: Tensor, adapted: Tensor) -> None:
        """base, adapted (..., d_out): the layer's output without its adapter and with it."""
        # An expert that no token of the batch chose.
        if not base.numel():
            return
        wide = base.double()
        self.base = _added(self.base, wide)
        self.change = _added(self.change, adapted.double() - wide)

    def ratio(self) -> float:
        """‖change‖ / ‖base‖; NaN where nothing came by, 0 where nothing changed, inf over an output of 0."""
        if self.base is None or self.change is None:
            return math.nan
        base, change = float(self.base), float(self.change)
        return change / base if base else math.copysign(math.inf, change) if change else 0.0

    def fault(self) -> str | None:
        """What gave NaN or Inf, if anything did."""
        if self.base is not None and not self.base.isfinite():
            return BY_DATA
        if self.change is not None and not self.change.isfinite():
            return BY_ADAPTER
        return None


def _added(norm: Tensor | None, tensor: Tensor) -> Tensor:
    """The norm of all that came before and of this. Nothing is squared that is too small or too large."""
    largest = tensor.abs().amax()
    own = torch.where(largest == 0, largest, torch.linalg.vector_norm(tensor / largest) * largest)
    return own if norm is None else torch.hypot(norm, own)


@gradients_as_before
def effects(model: nn.Module, layers: Mapping[str, nn.Module], data: Iterable[Any]) -> dict[str, float]:
    """What Adapter.effect gives, of these adapted layers of the model."""
    sizes = {name: Sizes() for name in layers}
    listen: list[Step] = []
    back: list[Step] = []
    for name, layer in layers.items():
        own = vars(layer._modules[CHILD])["hook"].id
        # In the place of the adapter's own hook: those before and after it stay where they are.
        for hooks, around in (
            (layer._forward_pre_hooks, _around_input),
            (layer._forward_hooks, _around_output),
        ):
            if (hook := hooks.get(own)) is not None:
                listen.append((setitem, hooks, own, around(hook, sizes[name])))
                back.append((setitem, hooks, own, hook))
    state = vars(model)[STATE]
    # dead() is about the latest forward of the user's own.
    back += [(mark.update, dict(mark)) for mark in (state.seen, *state.marks)]
    back += [(generator.set_state, generator.get_state()) for generator in _generators()]
    # Else torch.compile would make code anew, with these hooks in it.
    compiled = "torch._dynamo" in sys.modules
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        streamed(model, data, listen, back, what="the data", doing="effect")
    _refuse_non_finite(sizes)
    return {name: size.ratio() for name, size in sizes.items()}


def _refuse_non_finite(sizes: Mapping[str, Sizes]) -> None:
    found = {name: fault for name, size in sizes.items() if (fault := size.fault())}
    if found:
        # What one adapter spoils is bad in all layers that come after it: that one is told of first.
        name = next((name for name, fault in found.items() if fault == BY_ADAPTER), next(iter(found)))
        raise CalibrationError(
            f"{name}: {found[name]} ({len(found)} of {len(sizes)} targets). Leave out or mend such batches,"
            " or such an adapter."
        )


def _around_output(hook: Callable[..., Any], sizes: Sizes) -> Callable[..., Any]:
    def measured(layer: nn.Module, args: Any, kwargs: Any, y: Tensor) -> Any:
        adapted = hook(layer, args, kwargs, y)
        # Nothing comes of an adapter that is disabled.
        sizes.add(y, y if adapted is None else adapted)
        return adapted

    return measured


def _around_input(hook: Callable[..., Any], sizes: Sizes) -> Callable[..., Any]:
    def measured(layer: nn.Module, args: Any, kwargs: Any) -> Any:
        adapted = hook(layer, args, kwargs)
        given, named = (args, kwargs) if adapted is None else adapted
        # Not by the layer's own call, whose other hooks would run three times.
        sizes.add(layer.forward(*args, **kwargs), layer.forward(*given, **named))
        return adapted

    return measured


def _generators() -> list[Any]:
    """Those that a forward may draw from: what it draws in between is nobody's loss."""
    started = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [torch.default_generator, *(torch.cuda.default_generators if started else ())]
