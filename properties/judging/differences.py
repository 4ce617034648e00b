"""Slopes by differences of a function's own values, which need no formula."""

from collections.abc import Callable

import torch
from torch import Tensor

from properties.judging.tolerance import Bounded, claim_bound


def difference(output: Callable[[], Tensor], tensor: Tensor, direction: Tensor) -> Bounded:
    """(f(t + h d) − f(t − h d)) / 2h of the sum f of the output, and how far curvature and rounding may take
    it off: three times as far as a step twice as long tells, and the bound of f's terms over h.
    """
    h = torch.finfo(torch.float64).eps ** (1 / 3)
    with torch.no_grad():
        own, sums = tensor.clone(), {}
        for step in (h, -h, 2 * h, -2 * h, 0.0):
            tensor.copy_(own + step * direction)
            terms = output()
            sums[step] = terms.sum()
    fine, coarse = ((sums[s] - sums[-s]) / (2 * s) for s in (h, 2 * h))
    rounding = claim_bound(terms.abs().sum() / h, torch.float64)
    return Bounded(fine, (coarse - fine).abs() + rounding)
