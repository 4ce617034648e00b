"""What small steps do, in float64: whether the first is a small change, and each gradient points uphill."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from properties.probe.measures import Run
from properties.probe.training import Loss, fit, initial, parameters, restore
from properties.subjects.attaching import Attached, train, usual_size

# At which a difference of numbers in float32, and in float64, is least wrong by curvature and rounding: of
# the second order, and of the first.
STEPS = tuple(
    torch.finfo(dtype).eps ** order for dtype in (torch.float32, torch.float64) for order in (1 / 4, 1 / 3)
)
# The order of a small change in a small step is a whole number, 1 for O(ε) and 0 for a jump: this lies
# between the two.
HALF_ORDER = 0.5


@dataclass(frozen=True)
class Order:
    """Of the change of the output by a first AdamW step of each size of STEPS: the changes, and the p in
    |change| ~ εᵖ from each size to the next.
    """

    changes: tuple[float, ...]
    local: tuple[float, ...]

    @property
    def last(self) -> float:
        """Of the smallest steps: beside a linear part a jump shows only where that part has become small."""
        return self.local[-1]

    @property
    def continuous(self) -> bool:
        """Whether the smallest steps are changes in proportion; False for NaN."""
        return self.last > HALF_ORDER

    @property
    def jumps(self) -> bool:
        """Whether some step is not: a jump may be smoothed where it is so small that nobody takes it."""
        return min(self.local) <= HALF_ORDER

    def __str__(self) -> str:
        steps = ", ".join(f"{step:.2g}" for step in STEPS)
        return f"changes at steps of {steps}: {', '.join(f'{change:.2g}' for change in self.changes)}"


def order(made: Attached, loss: Loss, run: Run) -> Order:
    """Of a model in float64."""
    start = initial(made)
    restore(made.model, start)
    plain = run(made.model).detach().double()
    changes = []
    for size in STEPS:
        restore(made.model, start)
        fit(made.model, loss, [{"params": list(parameters(made.model).values()), "lr": size}], steps=1)
        changes.append(float((run(made.model).detach().double() - plain).norm() / plain.norm()))
    if not all(changes):
        return Order(tuple(changes), (math.nan,))
    pairs = zip(pairwise(changes), pairwise(STEPS), strict=True)
    return Order(tuple(changes), tuple(math.log(a / b) / math.log(m / n) for (a, b), (m, n) in pairs))


def widened(made: Attached) -> Attached:
    """The same in float64."""
    return replace(made, model=copy.deepcopy(made.model).double())


def uphill(made: Attached, loss: Loss, targets: Iterable[str]) -> list[str]:
    """The parameters of these targets along whose gradient the loss does not fall, in float64 and away from
    init: a central difference against the gradient's sign.
    """
    restore(made.model, initial(made))
    train(made)
    model = widened(made).model
    loss(model).mean().backward()  # type: ignore[no-untyped-call]
    found = []
    for name, parameter in parameters(model).items():
        if name.rpartition(".")[0] not in targets or parameter.grad is None or not parameter.grad.any():
            continue
        along = parameter.grad / torch.linalg.vector_norm(parameter.grad)
        # Where curvature and rounding leave least of a central difference.
        h = torch.finfo(torch.float64).eps ** (1 / 3) * max(1.0, usual_size(parameter))
        own, losses = parameter.detach().clone(), []
        with torch.no_grad():
            for ahead in (h, -h, 0.0):
                parameter.copy_(own + ahead * along)
                losses.append(float(loss(model).mean()))
        if losses[0] <= losses[1]:
            found.append(name)
    return found
