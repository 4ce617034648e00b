"""An adapted layer as a function of all that it is made of, in float64, with the bound of the error model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lora_lite as ll
from properties.judging.expected import options_of
from properties.judging.own_bound import PROBES
from properties.judging.own_formula import own_forward
from properties.judging.tolerance import Bounded, perturbed, scatter
from properties.subjects import subject
from properties.subjects.attaching import Attached
from strategies import AdaptedLayer, weight_and_bias
from strategies.options import accepts

Tensors = Mapping[str, Tensor]
Options = Mapping[str, Any]
# (x (tokens, d_in), W, b, tensors, options) -> (tokens, d_out)
Compute = Callable[[Tensor, Tensor, Tensor | None, Tensors, Options], Tensor]
# (d_in, d_out, options) -> whether there is such a layer.
Takes = Callable[[int, int, Options], bool]


@dataclass(frozen=True)
class LayerFunction:
    """W (d_out, d_in), b (d_out,) or None, the adapter's tensors and its settings by name; all float64.

    trained: the names of the tensors that learn. dtype: that it is computed in, which sets the bound.
    initial: the tensors as attach left them. inputs (tokens, d_in): the data that it looked at, if any.
    owner: the class whose methods a law may name.
    """

    compute: Compute
    W: Tensor
    b: Tensor | None
    tensors: Tensors
    options: Options
    trained: frozenset[str] = frozenset()
    takes: Takes = lambda d_in, d_out, options: True
    dtype: torch.dtype = torch.float64
    initial: Tensors = field(default_factory=dict)
    inputs: Tensor | None = None
    owner: type | None = None

    def but(
        self, tensors: Tensors | None = None, options: Options | None = None, **base: Any
    ) -> "LayerFunction":
        """The same with these tensors and settings in place of its own; base: W, b."""
        now, settings = {**self.tensors, **(tensors or {})}, {**self.options, **(options or {})}
        return replace(self, tensors=now, options=settings, **base)

    def fits(self) -> bool:
        """Whether there is such a layer: not every rank need be allowed."""
        return self.takes(self.W.shape[1], self.W.shape[0], self.options)

    def output(self, x: Tensor) -> Bounded:
        """x (tokens, d_in) -> (tokens, d_out)."""
        copies = {"x": self._copies("x", x), "W": self._copies("W", self.W)}
        if self.b is not None:
            copies["b"] = self._copies("b", self.b)
        tensors = {name: self._copies(f"now {name}", tensor) for name, tensor in self.tensors.items()}
        with torch.no_grad():
            results = [self._one(i, copies, tensors) for i in range(1 + PROBES)]
        return scatter(torch.stack(results), self.dtype, normwise=True)

    def _one(self, i: int, copies: Tensors, tensors: Tensors) -> Tensor:
        b = copies["b"][i] if "b" in copies else None
        now = {name: tensor[i] for name, tensor in tensors.items()}
        return self.compute(copies["x"][i], copies["W"][i], b, now, self.options)

    def _copies(self, name: str, tensor: Tensor) -> Tensor:
        """(1 + PROBES, ...), off by one rounding."""
        if not tensor.is_floating_point():
            return tensor.expand(1 + PROBES, *tensor.shape)
        return perturbed(name, tensor, self.dtype, PROBES, normwise=tensor.ndim > 1)

    def added(self, x: Tensor) -> Bounded:
        """What it gives more than the base, as exact as their sum is."""
        y = self.output(x)
        return Bounded(y.value - F.linear(x, self.W, self.b), y.error)

    def weight(self) -> Bounded:
        """W' (d_out, d_in) of the linear layer that it amounts to: its output at the axes less that at 0."""
        width = self.W.shape[1]
        y = self.output(torch.cat((self.W.new_zeros(1, width), torch.eye(width).to(self.W))))
        return Bounded((y.value[1:] - y.value[:1]).mT, (y.error[1:] + y.error[:1]).mT)


def function_of(attached: Attached) -> LayerFunction:
    """Of a case on one layer, by the variant's own code."""
    case: Any = attached.case
    assert isinstance(case, AdaptedLayer)
    W, b = weight_and_bias(attached.model[0])  # type: ignore[index]  # an nn.Sequential
    (tensors,) = subject.tensors(attached.model).values()
    data = case.calibration()
    return LayerFunction(
        partial(_own, case.variant),
        W.double(),
        None if b is None else b.double(),
        {name: tensor.detach().double() for name, tensor in tensors.items()},
        options_of(case),
        frozenset(name for name, tensor in tensors.items() if tensor.requires_grad),
        partial(_takes, case.variant),
        initial={name: tensor.double() for name, tensor in attached.initial["0"].items()},
        inputs=None if data is None else torch.cat(data).double(),
        owner=ll.VARIANTS[case.variant],
    )


def _own(variant: str, x: Tensor, W: Tensor, b: Tensor | None, tensors: Tensors, options: Options) -> Tensor:
    return own_forward(variant, x, W, b, x.new_zeros(len(x), len(W)), tensors, {}, options)


def _takes(variant: str, d_in: int, d_out: int, options: Options) -> bool:
    return accepts(variant, d_in, d_out, tuple(options.items()))
