"""Interface operators: what a variant's layers give, and what attach, save, load and merge do, with one thing
wrong. They need no source, and so there are as many for a user's variant as for a built-in one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.linear import read_bias, read_weight
from properties.mutation.mutant import Mutant, plain
from strategies import LINEAR

# (the original, its arguments) -> what is given in its place
Wrapper = Callable[..., Any]


@dataclass(frozen=True)
class Wrapped(Mutant):
    """A mutant that calls the original, and changes what goes in or comes out."""

    function: Any = None
    wrapper: Wrapper | None = None

    @cached_property
    def targets(self) -> tuple[FunctionType, ...]:
        return (self.function,)

    @cached_property
    def codes(self) -> dict[FunctionType, CodeType]:
        function, wrapper = self.function, self.wrapper
        original = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        original.__kwdefaults__ = function.__kwdefaults__
        free = function.__code__.co_freevars
        # A code fits a function that closes over the same names, and so it reads them.
        source = f"def outer({', '.join(free)}):\n def w(*args, **kwargs):\n  _ = [{', '.join(free)}]\n"
        source += "  call = 'WRAPPER'\n  return call(*args, **kwargs)\n return w"
        namespace: dict[str, Any] = {}
        exec(source, namespace)
        code: CodeType = namespace["outer"](*free).__code__

        def call(*args: Any, **kwargs: Any) -> Any:
            assert wrapper is not None
            return wrapper(original, *args, **kwargs)

        # As a constant: the function's own globals do not know it.
        consts = tuple(call if constant == "WRAPPER" else constant for constant in code.co_consts)
        return {function: code.replace(co_consts=consts)}


@dataclass(frozen=True)
class Seen:
    """One call of a variant's hook: what goes in, what the layer gives without the adapter, and with it."""

    adapter: Any
    x: Tensor
    base: Tensor
    given: Tensor
    original: Callable[..., Tensor]
    layer: nn.Module | None

    def matrix(self) -> Tensor:
        """The update that the adapter makes of each basis vector, (d_in, d_out)."""
        basis = torch.eye(self.adapter.shape.d_in, dtype=self.x.dtype, device=self.x.device)
        if self.layer is None:
            return self.original(self.adapter, basis).to(self.x.dtype) - basis
        y, bias = basis @ read_weight(self.layer).mT.to(self.x.dtype), read_bias(self.layer)
        zero = self.original(self.adapter, 0 * basis, 0 * y if bias is None else 0 * y + bias, self.layer)
        y = y if bias is None else y + bias
        return self.original(self.adapter, basis, y, self.layer) - y - (zero - (0 if bias is None else bias))


def _transposed(seen: Seen) -> Tensor:
    try:
        update = seen.matrix()
    except ll.BaseWeightError:
        return seen.given  # a weight that nothing can read
    if update.shape[0] != update.shape[1]:
        return seen.given
    return seen.given + seen.x @ (update.mT - update).to(seen.x.dtype)


def _delayed(seen: Seen) -> Tensor:
    before = seen.adapter.__dict__.get("before")
    seen.adapter.__dict__["before"] = seen.given
    return seen.given if before is None or before.shape != seen.given.shape else before


def _neighbours(seen: Seen) -> Tensor:
    return seen.given.roll(1, 0) if seen.given.ndim > 1 else seen.given


# Of the forward pass: what is wrong with it, and what is given in its place.
FORWARD: dict[str, tuple[str, Callable[[Seen], Tensor]]] = {
    "update_off": ("the adapter does nothing", lambda s: s.base + 0 * s.given),
    "update_doubled": ("the update counts twice", lambda s: s.base + 2 * (s.given - s.base)),
    "update_a_little_larger": ("the update is 2 % larger", lambda s: s.base + 1.02 * (s.given - s.base)),
    "update_negated": ("the update has the wrong sign", lambda s: s.base - (s.given - s.base)),
    "update_detached": ("nothing learns", lambda s: s.base + (s.given - s.base).detach()),
    "update_transposed": ("the update is transposed where it is square", _transposed),
    "output_negated": ("the output has the wrong sign", lambda s: -s.given),
    "output_scaled": ("the output is 1 % larger", lambda s: 1.01 * s.given),
    "output_detached": ("no gradient passes", lambda s: s.given.detach()),
    "output_rounded": ("the output passes through bfloat16", lambda s: s.given.bfloat16().to(s.given.dtype)),
    "output_delayed": ("each call gives what the one before should have", _delayed),
    "output_of_the_neighbour": ("each row gives its neighbour's", _neighbours),
    "off_in_training": ("training runs the base", lambda s: s.base if s.adapter.training else s.given),
    "off_in_eval": ("serving runs the base", lambda s: s.given if s.adapter.training else s.base),
    "base_detached": ("no gradient passes by the adapter", lambda s: s.given - s.base + s.base.detach()),
}


def _hooked(give: Callable[[Seen], Tensor]) -> Wrapper:
    def wrapper(original: Callable[..., Tensor], self: ll.Variant, x: Tensor, *rest: Any) -> Tensor:
        given = original(self, x, *rest)
        base, layer = rest if rest else (x, None)
        return give(Seen(self, x, base, given, original, layer))

    return wrapper


def _layers(model: nn.Module, variant: str) -> list[ll.Variant]:
    handles = ll.adapters_of(model)
    found = [layer for handle in handles for layer in handle.layers().values()]
    return [layer for layer in found if layer.name == variant]


def _trainable(layer: ll.Variant) -> list[Tensor]:
    return [parameter for parameter in layer.parameters() if parameter.requires_grad]


def _freeze(layers: list[ll.Variant]) -> None:
    for layer in layers:
        _trainable(layer)[-1].requires_grad_(False)


def _share(layers: list[ll.Variant]) -> None:
    first = layers[0] if layers else None
    for layer in layers[1:]:
        for name, parameter in layer.named_parameters(recurse=False):
            own = first._parameters[name] if first is not None else None
            if own is not None and own.shape == parameter.shape and own.device == parameter.device:
                layer.register_parameter(name, own)


def _permute(layers: list[ll.Variant]) -> None:
    with torch.no_grad():
        for layer in layers:
            tensor = max(_trainable(layer), key=Tensor.numel, default=None)
            if tensor is not None:
                tensor.copy_(tensor.flatten().roll(1).view_as(tensor))


def _after(variant: str, change: Callable[[list[ll.Variant]], None]) -> Wrapper:
    """Of attach and load: what they leave is changed."""

    def wrapper(original: Callable[..., Any], model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = original(model, *args, **kwargs)
        change(_layers(model, variant))
        return result

    return wrapper


def _while_saving(variant: str, change: Callable[[Tensor], Tensor]) -> Wrapper:
    """Of save: the file holds something else, the model does not."""

    def wrapper(original: Callable[..., Any], model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        tensors = [p for layer in _layers(model, variant) for p in layer.parameters()]
        own = [tensor.detach().clone() for tensor in tensors]
        with torch.no_grad():
            try:
                for tensor in tensors:
                    tensor.copy_(change(tensor))
                return original(model, *args, **kwargs)
            finally:
                for tensor, value in zip(tensors, own, strict=True):
                    tensor.copy_(value)

    return wrapper


def _merging(variant: str, change: Callable[[Any, Tensor, Tensor | None, float], None]) -> Wrapper:
    """Of merge: change(layer, its weight before, its bias before, the adapter's factor) after it."""

    def wrapper(original: Callable[..., Any], model: nn.Module) -> Any:
        of: dict[str, Any] = {
            name: (layer.scale, model.get_submodule(name))
            for handle in ll.adapters_of(model)
            for name, layer in handle.layers().items()
            # What is no linear layer of a known forward, merge refuses.
            if layer.name == variant and isinstance(model.get_submodule(name), LINEAR)
        }
        before = {
            name: [None if t is None else t.detach().clone() for t in (m.weight, m.bias)]
            for name, (_, m) in of.items()
        }
        result = original(model)
        with torch.no_grad():
            for name, (scale, layer) in of.items():
                change(layer, *before[name], scale)  # type: ignore[call-arg,arg-type]  # a weight, a bias
        return result

    return wrapper


def _twice(layer: Any, weight: Tensor, bias: Tensor | None, scale: float) -> None:
    layer.weight += layer.weight - weight
    if bias is not None:
        layer.bias += layer.bias - bias


def _without_bias(layer: Any, weight: Tensor, bias: Tensor | None, scale: float) -> None:
    if bias is not None:
        layer.bias.copy_(bias)


def _without_factor(layer: Any, weight: Tensor, bias: Tensor | None, scale: float) -> None:
    layer.weight.copy_(weight + (layer.weight - weight) / scale)


def interface_mutants(variant: str) -> Iterator[Wrapped]:
    """Every interface operator on one variant, built in or a user's."""
    kind: Any = ll.VARIANTS[variant]
    hook = "adapt_input" if kind.adapt_input is not ll.Variant.adapt_input else "adapt_output"

    def made(name: str, breaks: str, function: Any, wrapper: Wrapper) -> Wrapped:
        models = "a fault seen from outside"
        target = plain(function)
        return Wrapped(f"{variant}: {name}", breaks, models, (variant,), (), function=target, wrapper=wrapper)

    for name, (breaks, give) in FORWARD.items():
        yield made(name, breaks, getattr(kind, hook), _hooked(give))
    yield made("parameter_frozen", "the last parameter never learns", ll.attach, _after(variant, _freeze))
    yield made("parameters_shared", "layers of a shape share them", ll.attach, _after(variant, _share))
    yield made("frozen_by_load", "the last parameter never learns again", ll.load, _after(variant, _freeze))
    yield made("load_permutes", "numbers go to the entry beside theirs", ll.load, _after(variant, _permute))
    rounded = _while_saving(variant, lambda tensor: tensor.bfloat16().to(tensor.dtype))
    yield made("saved_rounded", "the file holds bfloat16", ll.save, rounded)
    yield made(
        "saved_as_zeros", "the file holds no numbers", ll.save, _while_saving(variant, torch.zeros_like)
    )
    yield made("merge_twice", "the update is folded in twice", ll.merge, _merging(variant, _twice))
    yield made("merge_without_bias", "the bias stays what it was", ll.merge, _merging(variant, _without_bias))
    if "alpha" not in kind.config_class.unused:
        yield made(
            "merge_without_factor", "alpha / r is left out", ll.merge, _merging(variant, _without_factor)
        )
