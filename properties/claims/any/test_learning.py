"""What an adapted layer learns: every tensor, every entry, by the gradient of its own output."""

from functools import partial

import torch
from torch import Tensor, nn

from properties.judging.assertions import Violation, assert_holds, assert_within
from properties.judging.claim import ANY, claim
from properties.judging.outcome import declare
from properties.judging.stops import UNNAMED, Output, holding
from properties.judging.tolerance import claim_bound
from properties.subjects.library import LibraryCase
from properties.subjects.living import begin, library, library_cases, move, output, trained_cases
from strategies import gaussian
from strategies.models import FULL_RANK

full_rank = partial(library_cases, weights=FULL_RANK, dtypes=("float32",), tokens=((3,),))
busy = partial(trained_cases, weights=FULL_RANK, dtypes=("float64", "float32"), tokens=((3,),))
smooth = partial(busy, dtypes=("float64",))
exact = partial(library_cases, weights=("gaussian", "uneven"), dtypes=("float64", "float32"), tokens=((3,),))
STEPS = 2
# Of a central difference; how far apart they are shows what curvature and rounding leave of it.
STEP_SIZES = (5e-5, 6e-5, 7e-5, 8e-5, 1e-4)
APART = 16


@claim(full_rank, stage="gradient", subject=ANY, share=0.2)
def test_every_tensor_learns_within_two_steps(case: LibraryCase) -> None:
    """From init, by plain gradient descent: each trainable tensor gets a gradient that is not zero."""
    life = begin(case)
    seen: set[str] = set()
    for step in range(STEPS):
        life.model.zero_grad()
        _pull(life.model, case, step)
        parameters = life.trainable()
        seen |= {n for n, p in parameters.items() if p.grad is not None and bool(p.grad.any())}
        with torch.no_grad():
            for parameter in parameters.values():
                if parameter.grad is not None:
                    parameter.sub_(0.1 * parameter.grad)
    idle = [name for name, p in life.trainable().items() if name not in seen and p.numel()]
    assert_holds(not idle, claim=f"{len(idle)} of the trainable tensors never get a gradient: {idle[:3]}")


@claim(busy, stage="gradient", subject=ANY, share=0.2)
def test_every_entry_matters(case: LibraryCase) -> None:
    """Away from init, each entry of a trainable tensor has a gradient for one of three losses."""
    life = begin(case)
    total: dict[str, Tensor] = {}
    for step in range(3):
        life.model.zero_grad()
        _pull(life.model, case, step)
        for name, parameter in life.trainable().items():
            if parameter.grad is not None:
                total[name] = total.get(name, torch.zeros_like(parameter)) + parameter.grad.abs()
    for name, gradient in total.items():
        dead = int((gradient == 0).sum())
        found = f"{dead} of {gradient.numel()} entries of {name} have no effect"
        assert_holds(dead == 0, claim=found)


@claim(smooth, stage="gradient", subject=ANY, share=0.2)
def test_gradients_are_those_of_the_forward(case: LibraryCase) -> None:
    """Along a random direction of each trained tensor and of the input, against the layer's differences."""
    life, x, stop = begin(case), case.x(), library(case.library).stops(case)
    tensors: dict[str, Tensor] = {"the input": x, **life.trainable()}
    if stop == UNNAMED:
        tensors = {"the input": x}
        declare("the gradients of its tensors stop short of the derivative, as is documented")
    for name, tensor in tensors.items():
        if tensor.numel() == 0:
            continue
        direction = gaussian(case.seed, f"direction {name}", tuple(tensor.shape), tensor.dtype)
        slope = _slope(life.model, x, tensor, direction, case)
        with holding(stop, lambda: _loss(life.model, x, case)) as loss:
            fine, *coarser = (_difference(loss, tensor, direction, h) for h in STEP_SIZES)
        size = output(life.model, x).abs().sum() / STEP_SIZES[0]
        apart = torch.stack([(coarse - fine).abs() for coarse in coarser]).max()
        error = APART * apart + claim_bound(size, torch.float64)
        what = f"the gradient of {name}"
        assert_within(slope, fine, error, what=what, like="that of the layer's own output")


@claim(exact, stage="training", subject=ANY, share=0.2)
def test_a_small_step_is_a_small_change(case: LibraryCase) -> None:
    """From init, of a step a hundred times smaller at most a tenth is seen."""
    if not library(case.library).continuous(case):
        return
    changes = []
    for size in (1e-2, 1e-4):
        life, x = begin(case), case.x()
        before = output(life.model, x)
        move(life.trainable(), case.seed, size)
        changes.append(float((output(life.model, x) - before).norm() / before.norm()))
    found = f"a step of 1e-4 changes the output by {changes[1]:.3g} of it, one of 1e-2 by {changes[0]:.3g}"
    rounding = float(claim_bound(1.0, case.dtype))
    assert_holds(changes[1] <= max(changes[0] / 10, rounding), claim=found)


def _pull(model: nn.Module, case: LibraryCase, step: int) -> None:
    """A gradient towards some other output."""
    got: Tensor = model(case.x(f"x {step}"))
    if not got.requires_grad:
        raise Violation("the output requires no gradient")
    wanted = gaussian(case.seed, f"wanted {step}", tuple(got.shape), got.dtype)
    torch.autograd.backward((got - wanted).square().sum())


def _loss(model: nn.Module, x: Tensor, case: LibraryCase) -> Tensor:
    got: Tensor = model(x)
    return (got * gaussian(case.seed, "upstream", tuple(got.shape), got.dtype)).sum()


def _slope(model: nn.Module, x: Tensor, tensor: Tensor, direction: Tensor, case: LibraryCase) -> Tensor:
    tensor.requires_grad_()
    (gradient,) = torch.autograd.grad(_loss(model, x, case), tensor, allow_unused=True)
    return torch.zeros(()).double() if gradient is None else (gradient * direction).sum()


def _difference(loss: Output, tensor: Tensor, direction: Tensor, h: float) -> Tensor:
    """(f(t + h d) − f(t − h d)) / 2h."""
    with torch.no_grad():
        own = tensor.clone()
        losses = []
        for step in (h, -h):
            tensor.copy_(own + step * direction)
            losses.append(loss())
        tensor.copy_(own)
        return (losses[0] - losses[1]) / (2 * h)
