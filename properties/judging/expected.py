"""What the oracle says of an observed layer: output and gradients, each with its bound."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

import lora_lite as ll
from properties.judging.own_formula import formula_of
from properties.judging.tolerance import (
    PROBES,
    Bounded,
    coarser,
    finite,
    handed_over,
    perturbed,
    perturbed_all,
    scatter,
)
from properties.oracles import ORACLES
from properties.subjects.layer_runs import Layer
from properties.subjects.protocol import Case, adapter_dtype
from strategies import gaussian
from strategies.options import Options, build_config


class OracleError(Exception):
    """An oracle is at fault, and not what it judges."""


@dataclass(frozen=True)
class Expected:
    """The oracle's output and gradients for one layer, each with its bound."""

    y: Bounded
    dx: Bounded
    gradients: dict[str, Bounded]


def adapts_input(variant: str) -> bool:
    """Whether it changes what the base layer is given, and not what it gives."""
    return ll.VARIANTS[variant].adapt_input is not ll.Variant.adapt_input


def expected(layer: Layer, probes: int = PROBES, base: torch.dtype | None = None) -> Expected:
    """Evaluate the variant's float64 oracle, and its scatter, at what the layer saw.

    base: what the base computes in; None for its input's dtype, as it is without autocast.
    """
    base, adapter = base or layer.x.dtype, adapter_dtype(layer.case)
    y, dx, through_base, gradients, *_ = _evaluate(layer, base, x_dtype=base, probes=probes)
    overflowed = _overflowed(layer)
    output, own = (scatter(result, base, overflowed=overflowed) for result in (y, dx))
    if coarser(base, adapter) != base:
        # Only what happens inside the adapter may be as coarse as the adapter's dtype: its parameters'
        # gradients and what it adds to output and dx see x and the upstream gradient rounded to it, the
        # base's output and dx never do.
        *_, gradients, change, dx_change = _evaluate(layer, base, x_dtype=adapter, probes=probes)
        output, own = (
            Bounded(bound.value, bound.error + scatter(added, base, overflowed=overflowed).error)
            for bound, added in ((output, change), (own, dx_change))
        )
    # Base and adapter each hand a gradient to x, rounded on its own: their sum may cancel, their errors and
    # overflows do not.
    W = layer.weight.double()
    of_base = through_base @ W
    of_adapter = own.value - of_base
    of_base_error = handed_over(of_base, through_base.abs() @ W.abs(), base)
    error = own.error + of_base_error + handed_over(of_adapter, of_adapter.abs(), adapter, base)
    bounds = {
        n: _overflowing_as_one(scatter(g, layer.tensors[n].dtype, normwise=True, overflowed=overflowed))
        for n, g in gradients.items()
    }
    if adapts_input(layer.case.variant) and (lost := of_base_error.isinf()).any():
        # The base's gradient goes through the adapter, and its overflow too: over the token's row, and into
        # every parameter.
        error = error.masked_fill(lost.any(-1, keepdim=True), torch.inf)
        bounds = {
            n: Bounded(bound.value, torch.full_like(bound.error, torch.inf)) for n, bound in bounds.items()
        }
    return Expected(output, Bounded(own.value, error), bounds)


def expected_output(layer: Layer) -> Bounded:
    """expected(layer).y alone, bit for bit: half the work, as the oracle does not go backward."""
    base, adapter, overflowed = layer.x.dtype, adapter_dtype(layer.case), _overflowed(layer)
    with torch.no_grad():
        given = _given(layer, base, x_dtype=base, probes=PROBES)
        y = given.output(layer)
        given.refuse_broken_oracle(layer, [y])
        output = scatter(y, base, overflowed=overflowed)
        if coarser(base, adapter) == base:
            return output
        given = _given(layer, base, x_dtype=adapter, probes=PROBES)
        added = scatter(given.output(layer) - given.plain(), base, overflowed=overflowed)
    return Bounded(output.value, output.error + added.error)


def _overflowing_as_one(gradient: Bounded) -> Bounded:
    """Where one entry cannot be held, terms of that size flow into others and may cancel there: Inf − Inf."""
    lost = bool(gradient.error.isinf().any())
    return Bounded(gradient.value, torch.full_like(gradient.error, torch.inf)) if lost else gradient


def _overflowed(layer: Layer) -> bool:
    """Whether it was handed an Inf or NaN, which another layer left."""
    return not finite((layer.x, layer.upstream))


@dataclass(frozen=True)
class _Given:
    """The oracle's arguments, as 1 + probes copies."""

    x: Tensor
    W: Tensor
    b: Tensor | None
    e: Tensor
    p: dict[str, Tensor]
    p0: dict[str, Tensor]

    def output(self, layer: Layer) -> Tensor:
        """y (1 + probes, tokens, d_out)."""
        case = layer.case
        return formula_of(case.variant).forward(
            self.x, self.W, self.b, self.e, self.p, self.p0, options_of(case)
        )

    def plain(self) -> Tensor:
        """The same of the base alone."""
        y = self.x @ self.W.mT
        return y if self.b is None else y + self.b.unsqueeze(-2)

    def refuse_broken_oracle(self, layer: Layer, results: Iterable[Tensor]) -> None:
        """NaN or Inf that were not among the arguments are the oracle's own."""
        if (
            layer.case.variant in ORACLES
            and not finite(results)
            and finite((self.x, self.W, self.b, self.e, *self.p.values(), *self.p0.values()))
        ):
            raise OracleError(
                f"the oracle of {layer.case.variant} gives NaN or Inf on {layer.name}, where all that it was"
                f" given is finite: mend ORACLES[{layer.case.variant!r}], nothing can be said of the variant"
            )


@torch.no_grad()
def of_no_use(layer: Layer) -> set[str]:
    """Of the base's weight and bias, those that the formula takes nothing of: with other numbers there its
    output is the same, bit for bit.
    """
    given = _given(layer, layer.x.dtype, x_dtype=layer.x.dtype, probes=0)
    # What the layer was given may be zeros, which any weight takes to zeros.
    given = replace(given, x=gaussian(0, "given", tuple(given.x.shape)).double())
    others = {"weight": replace(given, W=given.W + 1)}
    if given.b is not None:
        others["bias"] = replace(given, b=given.b + 1)
    wanted = given.output(layer)
    return {name for name, other in others.items() if torch.equal(other.output(layer), wanted)}


def _given(layer: Layer, base: torch.dtype, x_dtype: torch.dtype, probes: int) -> _Given:
    adapter = adapter_dtype(layer.case)
    d_in, d_out = layer.x.shape[-1], layer.y.shape[-1]
    x = perturbed("x", layer.x.reshape(-1, d_in), x_dtype, probes, through=adapter)
    W = perturbed("W", layer.weight, base, probes)
    b = None if layer.bias is None else perturbed("b", layer.bias, base, probes)
    plain = torch.nn.functional.linear(x[0], W[0], None if b is None else b[0])
    change = (layer.y.detach().reshape(-1, d_out).double() - plain).nan_to_num(0, 0, 0)
    e = perturbed("e", plain, base, probes) - plain + perturbed("change", change, adapter, probes) - change
    if layer.base_error is not None:
        e += layer.base_error.reshape(-1, d_out)
    p = perturbed_all("now ", layer.tensors, adapter, probes)
    p0 = perturbed_all("initial ", layer.initial, adapter, probes)
    return _Given(x, W, b, e, p, p0)


def _evaluate(
    layer: Layer, base: torch.dtype, x_dtype: torch.dtype, probes: int
) -> tuple[Tensor, Tensor, Tensor, Mapping[str, Tensor], Tensor, Tensor]:
    """y, dx, (1 + probes, tokens, ...); the gradient (tokens, d_out) at the base's own output; gradients by
    name; and of y and of dx what the adapter adds.
    """
    given = _given(layer, base, x_dtype, probes)
    upstream = layer.upstream.reshape(-1, layer.y.shape[-1])
    upstream = perturbed("upstream", upstream, x_dtype, probes, through=adapter_dtype(layer.case))
    inputs = [given.x, given.e, *(given.p[name] for name in layer.trainable)]
    for tensor in inputs:
        tensor.requires_grad_()
    y = given.output(layer)
    dx, through_base, *gradients = torch.autograd.grad(
        y, inputs, upstream, allow_unused=True, materialize_grads=True
    )
    if finite([upstream]):
        given.refuse_broken_oracle(layer, (y, dx, through_base, *gradients))
    added, dx_added = (y - given.plain()).detach(), dx - through_base @ given.W
    by_name = dict(zip(layer.trainable, gradients, strict=True))
    return y.detach(), dx, through_base[0], by_name, added, dx_added


def options_of(case: Case) -> dict[str, Any]:
    """Every field of the case's config by name, defaults included: what the oracle is told."""
    return _options(case.variant, case.options)


@lru_cache(maxsize=4096)
def _options(variant: str, options: Options) -> dict[str, Any]:
    return dict(vars(build_config(variant, options)))
