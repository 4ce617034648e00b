"""What the claims measure, on any subject that has a loss: nothing here knows which model or which variant it
is.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from properties.judging.assertions import bits
from properties.judging.snapshot import base_tensors
from properties.judging.tolerance import perturbed, scatter
from properties.probe.training import Loss, fit, initial, parameters, restore
from properties.subjects import subject
from properties.subjects.attaching import Attached, train, usual_size
from strategies import gaussian

Run = Callable[[nn.Module], Tensor]
# Names and indices of the parts of a tensor.
Parts = Callable[[Tensor], Iterator[tuple[str, Any]]]
RATE = 1e-3
PROBES = 4


def train_what_requires_a_gradient(made: Attached, loss: Loss, steps: int) -> list[str]:
    """AdamW on all that the model offers, as a training loop takes it; the base tensors that changed or got a
    gradient.
    """
    restore(made.model, initial(made))
    offered = [parameter for parameter in made.model.parameters() if parameter.requires_grad]
    fit(made.model, loss, [{"params": offered, "lr": RATE}], steps)
    gradients = {name for name, parameter in made.model.named_parameters() if parameter.grad is not None}
    now = base_tensors(made.model)
    same = {
        name
        for name, tensor in made.base.items()
        if name in now and torch.equal(bits(tensor), bits(now[name]))
    }
    return [name for name in made.base if name not in same or name in gradients]


@contextmanager
def leaked(made: Attached) -> Iterator[str]:
    """The base requires gradients, by mistake; as before afterwards. Gives what leaks.

    All of it: of one weight an adapter may make no use, as one that takes its place.
    """
    own = {id(parameter) for parameter in parameters(made.model).values()}
    base = [parameter for parameter in made.model.parameters() if id(parameter) not in own]
    before = [parameter.detach().clone() for parameter in base]
    for parameter in base:
        parameter.requires_grad_(True)
    try:
        yield f"all {len(base)} parameters of the base"
    finally:
        with torch.no_grad():
            for parameter, value in zip(base, before, strict=True):
                parameter.requires_grad_(False)
                parameter.grad = None
                parameter.copy_(value)


def whole(tensor: Tensor) -> Iterator[tuple[str, Any]]:
    """The tensor as one part."""
    yield "", ...


def slices(tensor: Tensor, most: int | None = None) -> Iterator[tuple[str, Any]]:
    """Along each axis every index, or `most` runs of them: rank rows, features, rotation blocks, entries of a
    gate.
    """
    if not tensor.ndim:
        yield from whole(tensor)
    for axis, size in enumerate(tensor.shape):
        runs = min(most or size, size)
        for i in range(runs):
            start, end = size * i // runs, size * (i + 1) // runs
            name = f"{start}:{end}" if end > start + 1 else f"{start}"
            yield f"[{':, ' * axis}{name}]", (*[slice(None)] * axis, slice(start, end))


@torch.no_grad()
def effects(
    output: Callable[[], Tensor], own: dict[str, nn.Parameter], parts: Parts
) -> list[tuple[float, str]]:
    """How far each part of `own` moves the output, over what rounding alone may: > 1 is an effect.

    Each entry of a part is moved by half of what is usual for it, or more. Rounding: the error model's bound,
    from copies of all parameters that are off by one rounding.
    """
    before = {name: parameter.clone() for name, parameter in own.items()}
    plain = output().double()
    results = [plain]
    noisy = {name: perturbed(name, tensor, tensor.dtype, PROBES) for name, tensor in before.items()}
    for i in range(PROBES):
        for name, parameter in own.items():
            parameter.copy_(noisy[name][1 + i])
        results.append(output().double())
    for name, parameter in own.items():
        parameter.copy_(before[name])
    error = scatter(torch.stack(results), output().dtype).error
    found: list[tuple[float, str]] = []
    for name, parameter in own.items():
        nudge = gaussian(0, f"nudge {name}", tuple(parameter.shape)).to(parameter)
        step = 0.5 * usual_size(parameter) * (nudge + nudge.sign())
        for part, index in parts(parameter):
            parameter[index] += step[index]
            found.append((float(((output().double() - plain).abs() / error).max()), name + part))
            parameter.copy_(before[name])
    return found


def weakest_target(made: Attached, run: Run) -> tuple[float, str]:
    """Away from init, the target whose strongest parameter moves the model's output least.

    Of a layer's parameters one may not matter to the model, as the bias of attention's keys does not: whether
    it matters to its layer weakest_row tells.
    """
    restore(made.model, initial(made))
    train(made)
    strongest: dict[str, tuple[float, str]] = {}
    for effect, name in effects(lambda: run(made.model), parameters(made.model), whole):
        target = name.rpartition(".")[0]
        strongest[target] = max(strongest.get(target, (0.0, name)), (effect, name))
    return min(strongest.values())


def weakest_row(made: Attached, inputs: dict[str, Tensor], most: int | None = None) -> tuple[float, str]:
    """Away from init, of all slices() of every target's parameters, by the output of its own layer."""
    restore(made.model, initial(made))
    train(made)
    found = []
    for target, x in inputs.items():
        own = {name: p for name, p in parameters(made.model).items() if name.rpartition(".")[0] == target}
        layer = made.model.get_submodule(target)
        found.append(min(effects(partial(layer, x), own, partial(slices, most=most))))
    return min(found)


def rates(made: Attached) -> dict[str, float]:
    """A learning rate for each parameter: RATE, or the spacing of its largest entry where the base or a width
    prescribes that.

    bfloat16 has a spacing of 0.06 at delora's λ = 15, which no step of 1e-3 can cross; only a size that is
    the variant's own choice, as a gate's 1 or 0 is, must let RATE through.
    """
    constant = subject.constant_inits(made.model)
    found = {}
    for target, tensors in made.initial.items():
        for name, tensor in tensors.items():
            spacing = float(tensor.abs().max()) * torch.finfo(tensor.dtype).eps if tensor.numel() else 0.0
            found[f"{target}.{name}"] = RATE if name in constant[target] else max(RATE, spacing)
    return found


# A false alarm once in 2^64.
SURE = 64


def patience(made: Attached) -> int:
    """Steps until every entry has moved: one for each tensor, of which the next may have no gradient before,
    and as many as it takes until it is sure that no entry's gradient, of as many digits as eps has, cancelled
    to exactly zero each time.
    """
    own = parameters(made.model)
    digits = -math.log2(max(torch.finfo(p.dtype).eps for p in own.values()))
    entries = sum(p.numel() for p in own.values())
    tensors = max(len(tensors) for tensors in made.initial.values())
    return tensors + math.ceil((SURE + math.log2(max(entries, 1))) / digits)


def unmoved(made: Attached, loss: Loss, inputs: dict[str, Tensor]) -> dict[str, int]:
    """Parameters with entries that no step of AdamW moved, and how many; inputs that are always zero aside.

    Stops when all have moved, or patience() is at its end.
    """
    start = initial(made)
    restore(made.model, start)
    own = parameters(made.model)
    moved = {name: torch.zeros_like(parameter, dtype=torch.bool) for name, parameter in own.items()}
    groups = [{"params": [p], "lr": rates(made)[name]} for name, p in own.items()]
    half = next(iter(own.values())).dtype == torch.float16
    # So small that AdamW sees no gradient's scale; in float16, where its usual 1e-8 is zero, gradients are
    # brought to 64.
    eps = 1e-4 if half else torch.finfo(torch.float32).tiny
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0, eps=eps)
    scale = _loss_scale(made, loss) if half else 1.0
    for _ in range(patience(made)):
        scale = _finite_backward(made, loss, scale)
        if half:
            for gradient in (parameter.grad for parameter in own.values() if parameter.grad is not None):
                gradient *= _power_of_two(gradient, to=64.0)
        optimiser.step()
        for name, parameter in own.items():
            moved[name] |= (parameter != start[name]) & parameter.isfinite()
        left = {name: int((~now & alive(now, inputs[_target(name)])).sum()) for name, now in moved.items()}
        if not any(left.values()):
            break
    return {name: count for name, count in left.items() if count}


def _loss_scale(made: Attached, loss: Loss) -> float:
    """As large as float16 gradients can bear."""
    loss(made.model).mean().backward()  # type: ignore[no-untyped-call]
    return min(
        _power_of_two(p.grad, to=2.0**13) for p in parameters(made.model).values() if p.grad is not None
    )


def _finite_backward(made: Attached, loss: Loss, scale: float) -> float:
    """Gradients of the scaled loss, and the scale: a sixteenth as long as one overflows, as loss scalers do,
    down to 2⁻²⁴.
    """
    while True:
        for parameter in parameters(made.model).values():
            parameter.grad = None
        (scale * loss(made.model).mean()).backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in parameters(made.model).values() if p.grad is not None]
        if scale < 2.0**-24 or all(bool(gradient.isfinite().all()) for gradient in gradients):
            return scale
        scale /= 16


def _power_of_two(gradient: Tensor, *, to: float) -> float:
    """What takes its largest entry to `to`, or half as far.

    AdamW does not see a tensor's scale, and float16 does.
    """
    largest = float(gradient.abs().max())
    return to * 2.0 ** math.floor(-math.log2(largest)) if 0 < largest < math.inf else to


def alive(entries: Tensor, x: Tensor) -> Tensor:
    """The entries that some input reaches: not the columns that belong to an input feature that is zero in
    every token.
    """
    if entries.ndim and entries.shape[-1] == x.shape[-1]:
        return x.any(0).expand(entries.shape)
    return torch.ones_like(entries)


def _target(name: str) -> str:
    return name.rpartition(".")[0]


def effect(model: nn.Module, base: nn.Module, run: Run) -> Tensor:
    """What the adapter adds to the output."""
    with torch.no_grad():
        return run(model).double() - run(base).double()
