"""What claims that draw nothing are about: three layers of one shape and simple adapters on them, and a layer
that takes no hook.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import Violation, assert_holds, assert_nonzero
from properties.judging.outcome import NotJudgedError
from properties.subjects import subject
from properties.subjects.attaching import seed_inits
from strategies import gaussian
from strategies.options import NoShapeError, Options, accepts, build_config, ranks, simplest
from strategies.scopes import WIDTH


class Stack(nn.Module):
    """Three layers of one shape, called by keyword and by position, and a normalisation beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(4, 4) for _ in range(3))
        self.norm = nn.LayerNorm(4)
        for name, parameter in self.named_parameters():
            parameter.data.copy_(gaussian(0, name, tuple(parameter.shape)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.third(torch.sin(self.second(input=self.norm(self.first(x)))))
        return y


def x(*leading: int, seed: int = 0) -> Tensor:
    return gaussian(seed, "x", (*leading, 4))


@dataclass(frozen=True)
class Simple:
    """The variant's simplest adapter, as a case. data: what it is calibrated with."""

    variant: str
    options: Options
    data: Any = None

    def calibration(self) -> Any:
        return self.data


def adapt(model: nn.Module, variant: str, **common: Any) -> nn.Module:
    """The model with the variant's simplest adapter on it, the same at every call. Raises Violation where
    attach refuses.
    """
    seed_inits(0)
    case = Simple(variant, simple_options(variant), _data(model, variant))
    with _named(variant, common):
        subject.attach(model, case, **common)
    return model


def on(model: nn.Module, variant: str, **common: Any) -> ll.Adapter:
    """As adapt(), by lora_lite's own attach: the handle that it gives."""
    seed_inits(0)
    with _named(variant, common):
        return ll.attach(model, simple_config(variant, **common), _data(model, variant))


@contextmanager
def _named(variant: str, common: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except ll.LoraLiteError as error:
        how = "".join(f" with {name}={value!r}" for name, value in common.items())
        raise Violation(f"attach of {variant}{how} is refused: {type(error).__name__}: {error}") from error


def _data(model: nn.Module, variant: str) -> list[Tensor] | None:
    """What the variant cannot start without, in the dtype of the model."""
    if not ll.VARIANTS[variant].needs_calibration:
        return None
    dtypes = (p.dtype for p in model.parameters() if p.is_floating_point())
    dtype = next(dtypes, torch.float32)
    return [x(9, seed=1).to(dtype), x(5, seed=2).to(dtype)]


def moved(adapter: ll.Adapter, seed: int = 0) -> ll.Adapter:
    """Every trainable parameter away from where it was, each in its own way."""
    _move(adapter.named_parameters(), seed)
    return adapter


def adapt_and_move(model: nn.Module, variant: str, seed: int = 0, **common: Any) -> nn.Module:
    """adapt(), with every trainable tensor away from where it was, each in its own way."""
    adapt(model, variant, **common)
    named = {f"{layer}.{name}": t for layer, own in subject.tensors(model).items() for name, t in own.items()}
    _move(((name, tensor) for name, tensor in named.items() if tensor.requires_grad), seed)
    return model


def _move(named: Iterable[tuple[str, Tensor]], seed: int) -> None:
    with torch.no_grad():
        for name, tensor in named:
            tensor.add_(gaussian(seed, name, tuple(tensor.shape)).to(tensor) / 2)


def assert_trains(model: nn.Module, *adapters: ll.Adapter) -> None:
    """These adapters are those of the model, and their parameters the ones that require a gradient."""
    found = f"adapters_of(model) gives {ll.adapters_of(model)}, wanted {adapters}"
    assert_holds(ll.adapters_of(model) == adapters, claim=found)
    own = {id(p) for adapter in adapters for p in adapter.parameters()}
    live = {name for name, p in model.named_parameters() if p.requires_grad}
    wanted = {name for name, p in model.named_parameters() if id(p) in own}
    assert_holds(not live - wanted, claim=f"{sorted(live - wanted)} train, and are not listed by {adapters}")
    assert_holds(not wanted - live, claim=f"{sorted(wanted - live)}, listed by {adapters}, are frozen")


def assert_learning(adapter: ll.Adapter) -> None:
    """After a backward pass each of its parameters has a gradient that is not zero."""
    for name, parameter in adapter.named_parameters():
        found = f"{name} of {adapter} has no gradient after a backward pass"
        assert_holds(parameter.grad is not None, claim=found)
        assert parameter.grad is not None
        assert_nonzero(parameter.grad, what=f"the gradient of {name} of {adapter}")


def simple_options(variant: str, width: int = WIDTH) -> Options:
    """The simplest options on layers at least this wide."""
    options = simplest(variant)
    fits = ranks(variant, width, width, options)
    if not fits:
        raise NoShapeError(
            f"{variant}: takes no layer {width} → {width}, as those are of the models that are not drawn"
        )
    r = 2 if 2 in fits else fits[0]
    return options if r is None else (*options, ("r", r))


def simple_config(variant: str, width: int = WIDTH, **common: Any) -> ll.AdapterConfig:
    """The variant's simplest config on layers at least this wide."""
    return build_config(variant, simple_options(variant, width), **common)


def inner_width(variant: str, width: int) -> int:
    """Of an encoder of this width: twice as much, or as much, as the variant takes."""
    for inner in (2 * width, width):
        shapes = ((width, inner), (inner, width))
        if all(accepts(variant, *shape, simple_options(variant, width)) for shape in shapes):
            return inner
    raise NotJudgedError(f"{variant} takes no layers {width} → {width} and none {width} → {2 * width}")


def starts_as_the_base(adapter: ll.Adapter) -> bool:
    """Whether it declares that a fresh one changes nothing."""
    return ll.VARIANTS[adapter.config.variant].identity(adapter.config) != "none"


NO_HOOK = (RuntimeError, "no hook here")


@contextmanager
def blocked(layer: nn.Module) -> Iterator[None]:
    """The layer takes no hook once an adapter is on it; before that, calibration may listen."""

    there = {*layer._forward_hooks, *layer._forward_pre_hooks}

    class Guarded(OrderedDict[int, Callable[..., Any]]):
        def __setitem__(self, key: int, hook: Callable[..., Any]) -> None:
            if key not in there and list(layer.children()):
                raise NO_HOOK[0](NO_HOOK[1])
            super().__setitem__(key, hook)

    with pytest.MonkeyPatch.context() as patch:
        for kind in ("_forward_hooks", "_forward_pre_hooks"):
            patch.setattr(layer, kind, Guarded(getattr(layer, kind)))
        yield
