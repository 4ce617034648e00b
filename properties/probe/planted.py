"""How far training gets towards what a layer gives with other parameters, and how far its formula does."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from properties.judging.expected import options_of
from properties.judging.own_formula import formula_of
from properties.judging.tolerance import SAFETY, claim_bound, coarser, perturbed, perturbed_all
from properties.oracles import ORACLES
from properties.probe.training import fit, initial, parameters, relative, restore
from properties.subjects.attaching import Attached, train, usual_size
from properties.subjects.protocol import adapter_dtype

# How long, and of what is usual for a tensor how fast: what is compared has trained alike.
STEPS, RATE = 150, 0.05
# Copies of the formula that start one rounding off. Where there is no oracle each is a layer of its own.
PROBES, FEW_PROBES = 12, 4


@dataclass(frozen=True)
class Left:
    """Of the distance to the planted output: the share that the layer leaves, that its formula in float64
    leaves, and how far rounding may take them apart.
    """

    layer: float
    formula: float
    error: float


def left(made: Attached, x: Tensor) -> Left:
    """Train a layer, "0" of its model, and its formula, from the same start, by the same optimiser."""
    start = initial(made)
    restore(made.model, start)
    own = {_name(name): p.detach().clone() for name, p in parameters(made.model).items()}
    train(made)
    planted = {_name(name): p.detach().clone() for name, p in parameters(made.model).items()}
    with torch.no_grad():
        wanted = made.model(x)
        restore(made.model, start)
        gap = (made.model(x) - wanted).square().mean()
    groups = relative(made.model, RATE)
    fit(made.model, lambda model: (model(x) - wanted).square().mean() / gap, groups, STEPS)
    with torch.no_grad():
        distance = (made.model(x) - wanted).square().mean()
    shares = _of_the_formula(made, x, own, planted)
    scatter = (shares[1:] - shares[0]).square().mean().sqrt()
    # No output is more exact than its dtype.
    dtype = coarser(adapter_dtype(made.case), x.dtype)
    rounding = claim_bound(float((wanted.square().mean() / gap).sqrt()), dtype)
    return Left(float((distance / gap).sqrt()), float(shares[0]), float(SAFETY * scatter + rounding))


def _name(parameter: str) -> str:
    return parameter.rpartition(".")[2]


def _of_the_formula(made: Attached, x: Tensor, own: dict[str, Tensor], planted: dict[str, Tensor]) -> Tensor:
    """(1 + probes,): what the exact formula leaves, and what copies of it do that start one rounding off."""
    case: Any = made.case
    probes = PROBES if case.variant in ORACLES else FEW_PROBES
    dtype, options, forward = adapter_dtype(case), options_of(case), formula_of(case.variant).forward
    tensors = perturbed_all("now ", made.initial["0"], dtype, probes)
    held = {_name(name): t for name, t in made.base.items()} | {"weight": made.weight("0")}
    base = {name: perturbed(name, t, x.dtype, probes) for name, t in held.items()}
    xs = perturbed("x", x, x.dtype, probes)
    initial = {name: tensor.clone() for name, tensor in tensors.items()}
    live = {name: tensors[name].requires_grad_() for name in own}

    def outputs(p: dict[str, Tensor]) -> Tensor:
        e = torch.zeros(*xs.shape[:-1], base["weight"].shape[-2]).to(xs)
        return forward(xs, base["weight"], base.get("bias"), e, {**tensors, **p}, initial, options)

    with torch.no_grad():
        wanted = outputs({n: live[n] + planted[n].double() - own[n].double() for n in live})
        gap = (outputs({}) - wanted).square().mean((-1, -2))

    def shares() -> Tensor:
        return (outputs({}) - wanted).square().mean((-1, -2)) / gap

    groups = [{"params": [p], "lr": RATE * usual_size(own[name])} for name, p in live.items()]
    # The sum: each copy learns as if it were alone.
    fit(made.model, lambda _: shares().sum(), groups, STEPS)
    with torch.no_grad():
        return shares().sqrt()
