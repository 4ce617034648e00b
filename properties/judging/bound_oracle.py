"""What an oracle says of a library's layer whose tensors are bound to its symbols."""

from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from properties.judging.outcome import NotJudgedError
from properties.judging.own_bound import PROBES, coarsest
from properties.judging.tolerance import Bounded, claim_bound, perturbed, scatter
from properties.oracles.field import FORMULAS
from properties.subjects.bindings import binding_of
from properties.subjects.bindings.binding import Read, options_of, tensors_of, unbound
from properties.subjects.library import LibraryCase
from properties.subjects.living import begin, library, method_of, move

Leaves = dict[str, Tensor]


class Bound:
    """A life, its tensors now and as they stood at init, and the formula that they are bound to.

    Raises NotJudgedError where a trained tensor or a drawn setting of the library has no place in it.
    """

    def __init__(self, case: LibraryCase) -> None:
        binding = binding_of(case.method)
        assert binding is not None  # a claim that needs an oracle is not run without
        self.case, self.binding, self.formula = case, binding, FORMULAS[binding.oracle]
        self.life = begin(replace(case, trained=False))
        self.dtype = case.dtype
        drawn = {*method_of(case.method).numbers, *dict(case.settings)}
        settings = library(case.library).settings(self.life, case)
        self.options, unknown = options_of(binding, settings, sorted(drawn))
        read = Read(tensors_of(self.life))
        self.initial = {symbol: t.detach().clone() for symbol, t in self._symbols(read).items()}
        if unknown := unknown + unbound(read, self.life):
            raise NotJudgedError(f"no formula yet: {case.method} has {unknown[0]}, which is not bound")
        self.names = sorted(read.seen)
        if case.trained:
            move(self.life.trainable(), case.seed)
        # Before the layer is called: some write to their tensors then.
        _ = self.leaves

    def _symbols(self, tensors: Any) -> Leaves:
        return self.binding.symbols(tensors) | self.binding.frozen(self.life.layer(0))

    @cached_property
    def symbols(self) -> Leaves:
        """As they are now."""
        return self._symbols(tensors_of(self.life))

    @cached_property
    def trained(self) -> dict[str, torch.nn.Parameter]:
        """What the symbols are made of and requires a gradient, under the library's names."""
        own = {id(parameter) for parameter in self.life.trainable().values()}
        now: Any = tensors_of(self.life)
        return {name: now[name] for name in self.names if id(now[name]) in own}

    @cached_property
    def base(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the layer before it was adapted, in float64."""
        linear = self.case.linear.build()
        return linear.weight.detach().double(), None if linear.bias is None else linear.bias.detach().double()

    @cached_property
    def leaves(self) -> Leaves:
        """Copies (1 + PROBES, ...) that are off by one rounding, of the base and of all that is read."""
        W, b = self.base
        made = {"W": perturbed("W", W, self.dtype, PROBES, normwise=True)}
        if b is not None:
            made["b"] = perturbed("b", b, self.dtype, PROBES)
        now = tensors_of(self.life)
        for name in self.names:
            tensor = now[name].detach()
            if not tensor.is_floating_point():
                made[name] = tensor.expand(1 + PROBES, *tensor.shape)
                continue
            dtype = coarsest(tensor.dtype, self.dtype) if name in self.trained else self.dtype
            made[name] = perturbed(name, tensor, dtype, PROBES, normwise=tensor.ndim > 1)
            made[name].requires_grad_(name in self.trained)
        return made

    def outputs(self, x: Tensor) -> Tensor:
        """What the formula gives for each copy; (1 + PROBES, tokens, d_in) -> the same, d_out."""
        return torch.stack([self._output(x[i], i) for i in range(len(x))])

    def _output(self, x: Tensor, i: int) -> Tensor:
        return self.output_of(x, {name: tensor[i] for name, tensor in self.leaves.items()})

    def output_of(self, x: Tensor, now: Leaves) -> Tensor:
        """Of tensors under the library's names, and the base as W and b; x (tokens, d_in)."""
        W, b = now["W"], now.get("b")
        e = x.new_zeros(len(x), len(W))
        double = {s: t.double() if t.is_floating_point() else t for s, t in self._symbols(now).items()}
        start = {s: t.double() if t.is_floating_point() else t for s, t in self.initial.items()}
        return self.formula.forward(x, W, b, e, double, start, self.options)


def said_output(bound: Bound, x: Tensor) -> Bounded:
    """x (tokens, d_in)."""
    with torch.no_grad():
        return scatter(bound.outputs(perturbed("x", x, bound.dtype, PROBES)), bound.dtype, normwise=True)


def said_gradients(bound: Bound, x: Tensor, upstream: Tensor) -> dict[str, Bounded]:
    """Of sum(output * upstream): of "the input", and of each trained tensor under the library's name."""
    leaves = {"the input": perturbed("x", x, bound.dtype, PROBES).requires_grad_()}
    y = bound.outputs(leaves["the input"])
    leaves |= {name: bound.leaves[name] for name in bound.trained}
    total = (y * perturbed("upstream", upstream, bound.dtype, PROBES)).sum()
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    size = (y[0] * upstream).abs().sum().detach()
    return {
        name: _or_cancelled(
            scatter(torch.zeros_like(leaf) if g is None else g, bound.dtype, normwise=True), leaf, size, bound
        )
        for (name, leaf), g in zip(leaves.items(), found, strict=True)
    }


def _or_cancelled(found: Bounded, leaf: Tensor, size: Tensor, bound: Bound) -> Bounded:
    """Where a gradient is zero whatever the numbers are, no copy shows the roundings of what cancels in it.

    Of a sum of that size, a derivative in entries as large as the leaf's is of this one.
    """
    terms = size / leaf[0].detach().square().mean().sqrt().clamp(min=torch.finfo(bound.dtype).tiny)
    nothing = found.value.abs() + found.error < torch.finfo(bound.dtype).eps * terms
    error = torch.where(nothing, claim_bound(terms, bound.dtype), found.error)
    return Bounded(found.value, error)


def said_weight(bound: Bound) -> tuple[Bounded, Bounded]:
    """Weight and bias of the linear layer that the formula amounts to: its output at the axes and at zero."""
    d_in = bound.base[0].shape[1]
    x = torch.cat((torch.zeros(1, d_in), torch.eye(d_in))).double()
    with torch.no_grad():
        y = bound.outputs(x.expand(1 + PROBES, *x.shape))
    weight = scatter((y[:, 1:] - y[:, :1]).mT, bound.dtype, normwise=True)
    # A bias cancels in the difference, and what is left is the float64 rounding of its size.
    lost = claim_bound((y[0, 1:].abs() + y[0, :1].abs()).mT, torch.float64)
    return Bounded(weight.value, weight.error + lost), scatter(y[:, 0], bound.dtype, normwise=True)
