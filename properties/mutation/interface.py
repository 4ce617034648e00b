"""Interface operators: what a variant's layers give, and what attach, save, load and merge do, with one thing
wrong. They need no source, and so there are as many for a user's variant as for a built-in one.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.linear import read_bias, read_weight
from properties.mutation.mutant import Mutant, compiled, plain
from strategies import LINEAR

# (the original, its arguments) -> what is given in its place
Wrapper = Callable[..., Any]


@dataclass(frozen=True)
class Wrapped(Mutant):
    """A mutant that calls the original, and changes what goes in or comes out."""

    function: Any = None
    wrapper: Wrapper = partial

    @cached_property
    def targets(self) -> tuple[FunctionType, ...]:
        return (self.function,)

    @cached_property
    def codes(self) -> dict[FunctionType, CodeType]:
        function, name = self.function, self.function.__name__
        closed = function.__globals__, name, function.__defaults__, function.__closure__
        original = FunctionType(function.__code__, *closed)
        original.__kwdefaults__ = function.__kwdefaults__
        # A code fits a function that closes over the same names, and so it reads them.
        read = ", ".join(function.__code__.co_freevars)
        source = (
            f"def {name}(*args, **kwargs):\n _ = [{read}]\n call = 'WRAPPER'\n return call(*args, **kwargs)"
        )
        definition: Any = ast.parse(source).body[0]
        code = compiled(function, definition)
        # As a constant: the function's own globals do not know it.
        call = partial(self.wrapper, original)
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
        weight, bias = read_weight(self.layer).mT.to(basis.dtype), read_bias(self.layer)
        updates = []
        for x in (basis, 0 * basis):
            y = x @ weight if bias is None else x @ weight + bias
            updates.append(self.original(self.adapter, x, y, self.layer) - y)
        return updates[0] - updates[1]


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


class Part(NamedTuple):
    """A tensor that merge writes to, and the factor of what it adds there."""

    tensor: Tensor
    bias: bool = False
    scale: float = 1.0


@dataclass(frozen=True)
class Grip:
    """How the operators take hold of a variant, or of a method of a library.

    tensors  the adapter's own, a list a layer, of what `save` and `merge` are given
    base     of the same, a function that reads the parts of the base as they are by then
    makes    attach and load return it, and are not given it
    """

    name: str
    tensors: Callable[[Any], list[list[Tensor]]]
    base: Callable[[Any], Callable[[], dict[str, Part]]]
    makes: bool

    def mutant(self, name: str, breaks: str, function: Any, wrapper: Wrapper) -> Wrapped:
        models, target = "a fault seen from outside", plain(function)
        told = f"{self.name}: {name}"
        return Wrapped(told, breaks, models, (self.name,), (), function=target, wrapper=wrapper)

    def mutants(self, attach: Any, load: Any, save: Any, merge: Any = None) -> Iterator[Wrapped]:
        """What can be wrong with these four, or three of them."""
        freeze, permute = self.after(_freeze), self.after(_permute)
        yield self.mutant("parameter_frozen", "the last parameter never learns", attach, freeze)
        yield self.mutant("frozen_by_load", "the last parameter never learns again", load, freeze)
        yield self.mutant("load_permutes", "numbers go to the entry beside theirs", load, permute)
        rounded = self.saving(lambda tensor: tensor.bfloat16().to(tensor.dtype))
        yield self.mutant("saved_rounded", "the file holds bfloat16", save, rounded)
        yield self.mutant("saved_as_zeros", "the file holds no numbers", save, self.saving(torch.zeros_like))
        if merge is not None:
            twice = self.merging(lambda now, before: now.tensor + (now.tensor - before))
            yield self.mutant("merge_twice", "the update is folded in twice", merge, twice)

    def after(self, change: Callable[[list[Tensor]], None]) -> Wrapper:
        """Of attach and load: of each layer what they leave to be trained is changed."""

        def wrapper(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            for tensors in self.tensors(result if self.makes else args[0]):
                change([tensor for tensor in tensors if tensor.requires_grad])
            return result

        return wrapper

    def saving(self, change: Callable[[Tensor], Tensor]) -> Wrapper:
        """Of save: the file holds something else, the model does not."""

        def wrapper(original: Callable[..., Any], held: Any, *args: Any, **kwargs: Any) -> Any:
            own = [(t, t.detach().clone()) for tensors in self.tensors(held) for t in tensors]
            with torch.no_grad():
                try:
                    for tensor, _ in own:
                        tensor.copy_(change(tensor))
                    return original(held, *args, **kwargs)
                finally:
                    for tensor, value in own:
                        tensor.copy_(value)

        return wrapper

    def merging(self, change: Callable[[Part, Tensor], Tensor]) -> Wrapper:
        """Of merge, and of unmerge: change(a part of the base after it, what was there before)."""

        def wrapper(original: Callable[..., Any], held: Any) -> Any:
            read = self.base(held)
            before = {name: part.tensor.detach().clone() for name, part in read().items()}
            result = original(held)
            with torch.no_grad():
                for name, part in read().items():
                    part.tensor.data.copy_(change(part, before[name]))
            return result

        return wrapper


def _freeze(trained: list[Tensor]) -> None:
    trained[-1].requires_grad_(False)


def _permute(trained: list[Tensor]) -> None:
    if (tensor := max(trained, key=Tensor.numel, default=None)) is not None:
        tensor.data.copy_(tensor.data.flatten().roll(1).view_as(tensor))


def _layers(model: nn.Module, variant: str) -> dict[str, ll.Variant]:
    found = {n: layer for handle in ll.adapters_of(model) for n, layer in handle.layers().items()}
    return {name: layer for name, layer in found.items() if layer.name == variant}


def _share(variant: str) -> Wrapper:
    def wrapper(original: Callable[..., Any], model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = original(model, *args, **kwargs)
        layers = [*_layers(model, variant).values()]
        for layer in layers[1:]:
            for name, parameter in layer.named_parameters(recurse=False):
                own = layers[0]._parameters[name]
                if own is not None and own.shape == parameter.shape and own.device == parameter.device:
                    layer.register_parameter(name, own)
        return result

    return wrapper


def _base(model: nn.Module, variant: str) -> Callable[[], dict[str, Part]]:
    # What is no linear layer of a known forward, merge refuses.
    found = {name: (layer, model.get_submodule(name)) for name, layer in _layers(model, variant).items()}
    linear = {name: (a.scale, layer) for name, (a, layer) in found.items() if isinstance(layer, LINEAR)}
    return lambda: {
        f"{name}.{kind}": Part(tensor, kind == "bias", scale)
        for name, (scale, layer) in linear.items()
        for kind in ("weight", "bias")
        if (tensor := getattr(layer, kind)) is not None
    }


def interface_mutants(variant: str) -> Iterator[Wrapped]:
    """Every interface operator on one variant, built in or a user's."""
    kind: Any = ll.VARIANTS[variant]
    hook = "adapt_input" if kind.adapt_input is not ll.Variant.adapt_input else "adapt_output"
    grip = Grip(
        variant,
        lambda model: [[*layer.parameters()] for layer in _layers(model, variant).values()],
        lambda model: _base(model, variant),
        makes=False,
    )
    for name, (breaks, give) in FORWARD.items():
        yield grip.mutant(name, breaks, getattr(kind, hook), _hooked(give))
    yield from grip.mutants(ll.attach, ll.load, ll.save, ll.merge)
    yield grip.mutant("parameters_shared", "layers of a shape share them", ll.attach, _share(variant))
    kept = grip.merging(lambda now, before: before if now.bias else now.tensor)
    yield grip.mutant("merge_without_bias", "the bias stays what it was", ll.merge, kept)
    if "alpha" not in kind.config_class.unused:
        bare = grip.merging(
            lambda now, before: now.tensor if now.bias else before + (now.tensor - before) / now.scale
        )
        yield grip.mutant("merge_without_factor", "alpha / r is left out", ll.merge, bare)
