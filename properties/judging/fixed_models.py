"""What facts are about, which draw nothing: three layers of one shape and adapters on them, and a layer that
takes no hook.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import Violation, assert_holds, assert_nonzero
from properties.subjects.attaching import seed_inits
from strategies import gaussian
from strategies.options import build_config, ranks, simplest


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


def on(model: nn.Module, variant: str, **common: Any) -> ll.Adapter:
    """The variant's simplest adapter, the same at every call. Raises Violation where attach refuses."""
    seed_inits(0)
    data = [x(9, seed=1), x(5, seed=2)] if ll.VARIANTS[variant].needs_calibration else None
    try:
        return ll.attach(model, simple_config(variant, **common), data)
    except ll.LoraLiteError as error:
        raise Violation(f"{variant} {common}: refused with {error}") from error


def moved(adapter: ll.Adapter, seed: int = 0) -> ll.Adapter:
    """Every trainable parameter away from where it was, each in its own way."""
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            parameter.add_(gaussian(seed, name, tuple(parameter.shape)).to(parameter) / 2)
    return adapter


def assert_trains(model: nn.Module, *adapters: ll.Adapter) -> None:
    """These adapters are those of the model, and their parameters the ones that require a gradient."""
    assert_holds(
        ll.adapters_of(model) == adapters, claim=f"{ll.adapters_of(model)} are attached, wanted {adapters}"
    )
    own = {id(p) for adapter in adapters for p in adapter.parameters()}
    wrong = [name for name, p in model.named_parameters() if p.requires_grad != (id(p) in own)]
    assert_holds(not wrong, claim=f"{wrong} train or not, and should not or should, with {adapters}")


def assert_learning(adapter: ll.Adapter) -> None:
    for name, parameter in adapter.named_parameters():
        gradient = torch.zeros(1) if parameter.grad is None else parameter.grad
        assert_nonzero(gradient, what=f"the gradient of {adapter.config.variant} {name}")


WIDTH = 4  # of layers whose shape does not matter; every variant takes it


def simple_config(variant: str, width: int = WIDTH, **common: Any) -> ll.AdapterConfig:
    """The variant's simplest config on layers at least this wide."""
    options = simplest(variant)
    fits = ranks(variant, width, width, options)
    r = 2 if 2 in fits else fits[0]
    return build_config(variant, options if r is None else (*options, ("r", r)), **common)


NO_HOOK = (RuntimeError, "no hook here")


@contextmanager
def blocked(layer: nn.Module) -> Iterator[None]:
    """The layer takes no hook once an adapter is on it; before that, calibration may listen."""

    class Guarded(OrderedDict[int, Callable[..., Any]]):
        def __setitem__(self, key: int, hook: Callable[..., Any]) -> None:
            if list(layer.children()):
                raise NO_HOOK[0](NO_HOOK[1])
            super().__setitem__(key, hook)

    with pytest.MonkeyPatch.context() as patch:
        for kind in ("_forward_hooks", "_forward_pre_hooks"):
            patch.setattr(layer, kind, Guarded(getattr(layer, kind)))
        yield
