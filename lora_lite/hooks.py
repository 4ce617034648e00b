"""What an adapter hangs on its layer, and what runs at every call of it."""

from collections.abc import Callable
from operator import setitem
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lora_lite.atomic import Step
from lora_lite.calibration import first_argument
from lora_lite.errors import BaseWeightError, TargetError
from lora_lite.names import CHILD, STATE
from lora_lite.sketches import changed
from lora_lite.spec import Variant
from lora_lite.statistics import refuse_moved, stamps_of


def hang(layer: nn.Module, module: Variant) -> list[Step]:
    """What puts the module on its layer: child and hook, as add_module and register_forward_hook do it."""
    if hasattr(layer, CHILD):
        raise TargetError(
            f"{type(layer).__name__}: its attribute {CHILD!r} is taken by a {type(layer.lora_lite).__name__}."
            " Rename it, or leave the layer out with exclude_names."
        )
    # A new module is in training mode; the model need not be.
    if module.training != layer.training:
        module.train(layer.training)
    # Appended: hooks that the layer already has run first, and the adapter gets what they make of x or y.
    hook: Callable[..., Any]
    if type(module).adapt_input is not Variant.adapt_input:
        hook, hooks, with_kwargs = (
            _on_input,
            layer._forward_pre_hooks,
            layer._forward_pre_hooks_with_kwargs,
        )
    else:
        hook, hooks, with_kwargs = _on_output, layer._forward_hooks, layer._forward_hooks_with_kwargs
    # torch copies a handle along with the hooks that it is of: a deep copy of the model is detached by
    # itself.
    handle = RemovableHandle(hooks, extra_dict=with_kwargs)
    module.__dict__["hook"] = handle
    # In the place of the layer's own numbers: what its hooks make of y they make of the adapter's.
    first = [(hooks.move_to_end, handle.id, False)] if module.replaces else []  # type: ignore[attr-defined]
    return [
        (setitem, layer._modules, CHILD, module),
        (setitem, hooks, handle.id, hook),
        (setitem, with_kwargs, handle.id, True),
        *first,
    ]


# The hooks find their adapter through the layer that calls them, so that a deep copy of a model uses its own.
def _adapt_input(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    x = _given(layer, args, kwargs)
    adapter: Variant = layer.lora_lite
    # Past nn.Module.__setattr__, which would take 2 µs of each forward (measured).
    adapter.__dict__["mark"]["reached"] = True
    adapted = _without_autocast(x, adapter.adapt_input, x).to(x.dtype)
    if args:
        return (adapted, *args[1:]), kwargs
    return args, {name: adapted if value is x else value for name, value in kwargs.items()}


def _adapt_output(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], y: Tensor) -> Tensor:
    x = _given(layer, args, kwargs)
    adapter: Variant = layer.lora_lite
    adapter.__dict__["mark"]["reached"] = True
    adapted = _without_autocast(x, adapter.adapt_output, x, y, layer)
    return adapted.to(y.dtype)


def _on_input(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return None if _off(layer) else _adapt_input(layer, args, kwargs)


def _on_output(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], y: Tensor) -> Tensor | None:
    return None if _off(layer) else _adapt_output(layer, args, kwargs, y)


# What hang() hangs.
ADAPTING = (_on_input, _on_output)


def _off(layer: Any) -> bool:
    """Whether the layer's adapter is disabled; the layer counts as reached then too."""
    adapter: Variant = layer.lora_lite
    if not adapter.__dict__["switches"] or not adapter.disabled:
        return False
    adapter.__dict__["mark"]["reached"] = True
    return True


def _given(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What the layer is called with. Raises TargetError on a nested tensor, which has no shape to go by."""
    x, adapter = first_argument(layer, args, kwargs), layer.lora_lite
    own = next(iter(adapter._parameters.values()), x)
    # Where the bias alone is there, torch computes with a weight on the meta device: with memory that is
    # nobody's. An engine's own forward has brought the weight, and taken it away again.
    brought = "forward" in vars(layer) and not adapter.rereads_weight
    weight = x if brought else layer._parameters.get("weight", x)
    for what, tensor in (("adapter", own), ("layer's weight", weight)):
        if tensor is not None and tensor.device != x.device:
            raise TargetError(
                f"{vars(adapter).get('target')}: the {what} is on {tensor.device}, its input on {x.device},"
                " wanted one device. Move the whole model; an engine that takes a layer's weights away and"
                " brings them for its call must bring the adapter's too: leave the layer out of it, or with"
                " exclude_names."
            )
    if x.is_nested:
        raise TargetError(
            f"{vars(adapter).get('target')}: found a nested tensor, wanted a padded one."
            " Build nn.TransformerEncoder with enable_nested_tensor=False, or pad what the model is given."
        )
    return x


def listen(model: nn.Module) -> tuple[RemovableHandle, list[Step]]:
    """What tells the model's adapters that a forward begins, and looks at the base when it ends."""
    handle = RemovableHandle(model._forward_pre_hooks)
    return handle, [
        (setitem, model._forward_pre_hooks, handle.id, begin),
        (setitem, model._forward_hooks, handle.id, end),
    ]


def begin(model: nn.Module, args: Any) -> None:
    """dead() is about the forward that begins now."""
    state: Any = vars(model)[STATE]
    if not torch.compiler.is_compiling():
        for layer in state.started_from:
            refuse_another_weight(layer)
        state.stamps = stamps_of(state.buffers)
    state.seen["ran"] = True
    for mark in state.marks:
        mark["reached"] = False


def end(model: nn.Module, args: Any, y: Any) -> None:
    """What a forward in training mode has written to the base is refused."""
    state: Any = vars(model)[STATE]
    if state.buffers and not torch.compiler.is_compiling():
        # Taken: without begin() before it, where a user has removed that, there is nothing to compare.
        before, state.stamps = state.stamps, []
        refuse_moved(state.buffers, before)


def refuse_another_weight(layer: nn.Module, *, thoroughly: bool = False) -> None:
    """Raise BaseWeightError where the adapter started from a weight that is gone."""
    module = layer._modules.get(CHILD)
    if module is not None and (how := changed(layer, module, thoroughly=thoroughly)) is not None:
        raise BaseWeightError(
            f"{vars(module)['target']}: its weight is another than at attach or load, {how}, and"
            f" {module.name} started from that. Give the model its base first, then attach or load the"
            " adapter again."
        )


def _without_autocast(x: Tensor, adapt: Callable[..., Tensor], *given: Any) -> Tensor:
    """adapt(*given) in the dtypes that it chooses itself."""
    # torch has no autocast for the meta device, and raises when it is asked.
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):
        return adapt(*given)
    with torch.autocast(x.device.type, enabled=False):
        return adapt(*given)
