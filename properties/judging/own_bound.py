"""How far rounding may move the output of a layer that has no formula: by its own computation in float64.

The same error model as tolerance.py with the adapted model in the oracle's place: a copy of it in float64 is
run with every tensor and the input off by one rounding of the dtype that each is stored in, and so what its
modules hand on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.outcome import NotJudgedError
from properties.judging.tolerance import Bounded, Perturbed, perturbed, scatter
from properties.subjects.living import output, twin

# (a model in float64, its input) -> tensors by name; a gradient by that of its parameter.
Compute = Callable[[nn.Module, Tensor], dict[str, Tensor]]
# Half of what an oracle is given: entries are bounded by what all of them scatter, which takes fewer.
PROBES = 6


def own_output(model: nn.Module, x: Tensor) -> Bounded:
    """The output that exact arithmetic would give, and how far the model's own dtypes may be off from it."""
    return own_results(model, x, lambda copy, given: {"output": output(copy, given)})["output"]


def own_results(model: nn.Module, x: Tensor, compute: Compute) -> dict[str, Bounded]:
    """The same of all that `compute` gives of a model and its input, which may be tokens; a gradient too."""
    used = x.dtype if x.is_floating_point() else next(model.parameters()).dtype
    try:
        copy = twin(model)
        for module in copy.modules():
            # lora_lite notices a base that moves after attach, and here it moves on purpose.
            vars(module).pop("sketch", None)
        exact = compute(copy, x.double() if x.is_floating_point() else x)
    except Exception as error:
        # A claim of its own asks for casts and copies; the others have no bound without.
        raise NotJudgedError(f"no copy of it in float64: {type(error).__name__}: {error}") from error
    tensors = dict(chain(copy.named_parameters(), copy.named_buffers()))
    stored = dict(chain(model.named_parameters(), model.named_buffers()))
    copies = {
        name: Perturbed(
            name, stored[name], coarsest(stored[name].dtype, used), PROBES, normwise=tensor.ndim > 1
        )
        for name, tensor in tensors.items()
        if name in stored and stored[name].is_floating_point()
    }
    inputs = perturbed("x", x, used, PROBES) if x.is_floating_point() else [x] * (1 + PROBES)
    results = {name: [result.detach().double()] for name, result in exact.items()}
    with _rounding(copy, used) as at:
        for at.probe in range(1, 1 + PROBES):
            with torch.no_grad():
                for name, values in copies.items():
                    tensors[name].copy_(values[at.probe])
            for name, result in compute(copy, inputs[at.probe]).items():
                results[name].append(result.detach().double())
    return {
        # A gradient is stored as its parameter is.
        name: scatter(torch.stack(each), stored[name].dtype if name in stored else used, normwise=True)
        for name, each in results.items()
    }


@dataclass
class _At:
    """Which of the copies is run, and what a module of it last handed on."""

    probe: int = 0
    last: Any = None


@contextmanager
def _rounding(copy: nn.Module, used: torch.dtype) -> Iterator[_At]:
    """What each module hands on, and an adapter is given, is off by one rounding: where it cancels further on
    (what a norm centres is summed up, what is rotated is squared), no other tensor shows it.
    """

    def off(name: str, dtype: torch.dtype, given: Any) -> Any:
        if not isinstance(given, Tensor) or not given.is_floating_point():
            return given
        # Some compute in a dtype of their own, which stays what it is.
        noisy = Perturbed(name, given, dtype, PROBES)[at.probe]
        return given + (noisy - given.detach()).to(given.dtype)

    def handed(name: str, y: Any) -> Any:
        # A container hands on what the last of its children did, which is rounded already.
        if y is not at.last:
            at.last = off(name, used, y)
        return at.last

    def rounding_input(name: str, adapter: ll.Variant, hook: Any, x: Tensor, *rest: Any) -> Tensor:
        given: Tensor = hook(off(name, adapter.config.dtype, x), *rest)
        return given

    at, undo = _At(), list[Callable[[], Any]]()
    try:
        for name, module in copy.named_modules():
            if isinstance(module, ll.Variant):
                for hook in ("adapt_input", "adapt_output"):
                    vars(module)[hook] = partial(rounding_input, name, module, getattr(module, hook))
                    undo.append(partial(vars(module).pop, hook))
            else:
                handle = module.register_forward_hook(lambda _, __, y, name=name: handed(name, y))
                undo.append(handle.remove)
        yield at
    finally:
        for step in undo:
            step()


def coarsest(stored: torch.dtype, used: torch.dtype) -> torch.dtype:
    """Of a tensor that is kept in one dtype and multiplied in another."""
    return stored if torch.finfo(stored).eps >= torch.finfo(used).eps else used
