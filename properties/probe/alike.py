"""What training reaches with a variant's formula in place of its code: same start, texts and optimiser."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from properties.judging.expected import options_of
from properties.judging.own_formula import formula_of
from properties.judging.tolerance import SAFETY, claim_bound, perturbed
from properties.probe.steps import widened
from properties.probe.training import Loss, fit, giving, initial, relative, restore
from properties.subjects import subject
from properties.subjects.attaching import Attached

# Copies that start one rounding off.
PROBES = 4


def least_of_the_formula(
    made: Attached, loss: Loss, losses: Callable[[nn.Module], Tensor], pace: float, steps: int
) -> Tensor:
    """By how much losses (n,) fall at least where each adapted layer computes its formula, in float64: what
    rounding may take away is off.
    """
    model = widened(made).model
    stored = next(iter(made.base.values())).dtype
    start = {
        name: perturbed(f"start {name}", tensor, tensor.dtype, PROBES)
        for name, tensor in initial(made).items()
    }
    weights = {
        target: perturbed(f"W {target}", made.weight(target), stored, PROBES) for target in made.initial
    }
    drops = []
    for probe in range(1 + PROBES):
        restore(model, {name: copies[probe] for name, copies in start.items()})
        now = {target: copies[probe] for target, copies in weights.items()}
        with giving(model, _formula(made, model, now)):
            with torch.no_grad():
                before = losses(model)
            fit(model, loss, relative(model, pace), steps)
            with torch.no_grad():
                drops.append(before - losses(model))
    found = torch.stack(drops)
    scatter = (found[1:] - found[0]).square().mean(0).sqrt()
    return found[0] - SAFETY * scatter - claim_bound(before, stored)


def _formula(made: Attached, model: nn.Module, weights: dict[str, Tensor]) -> Callable[..., Tensor]:
    """What a layer of the model gives by its formula, with the tensors that it has now."""
    case: Any = made.case
    forward, options = formula_of(case.variant).forward, options_of(case)
    # What the formula calls "at init" is where this run starts.
    held = {target: dict(tensors) for target, tensors in subject.tensors(model).items()}
    first = {target: {n: t.detach().clone() for n, t in own.items()} for target, own in held.items()}

    def output(target: str, layer: Any, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        W, b = weights[target], made.base.get(f"{target}.bias")
        e = torch.zeros(len(flat), W.shape[0]).to(flat)
        y = forward(flat, W, None if b is None else b.double(), e, held[target], first[target], options)
        return y.reshape(*x.shape[:-1], -1)

    return output
