"""Gradients that stop by declaration, and the output as it would be if what stops them were a constant."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from properties.judging.assertions import Violation
from properties.subjects.library import Stop

Output = Callable[[], Tensor]


# A gradient stops, and nobody says at what.
UNNAMED = Stop(None)


def stops_of(laws: Mapping[str, Any], owner: Any) -> dict[str, Stop]:
    """By tensor, of {"row_norms": ("A", "B")}, or of ("A", "B") where no method gives the constant."""
    given = laws.get("stops_before", ())
    if isinstance(given, Mapping):
        return {name: Stop(owner, method) for method, names in given.items() for name in names}
    return dict.fromkeys(given, UNNAMED)


@contextmanager
def holding(stop: Stop | None, output: Output) -> Iterator[Output]:
    """The output, in which the method gives what it gave at first, call by call, wherever the tensors go.

    Raises Violation where the output does not ask it: then nothing stops there.
    """
    if stop is None or stop.owner is None:
        yield output
        return
    raw = inspect.getattr_static(stop.owner, stop.method)
    kept = [] if stop.passed else _results(stop, raw, output)
    turn = iter(kept)

    def constant(*args: Any, **kwargs: Any) -> Any:
        return args[1] if stop.passed else next(turn)

    def held() -> Tensor:
        nonlocal turn
        turn = iter(kept)
        return output()

    with patch.object(stop.owner, stop.method, constant):
        yield held


def _results(stop: Stop, raw: Any, output: Output) -> list[Any]:
    """Of each call of the method, of the layer as it is."""
    kept: list[Any] = []

    def noting(*args: Any, **kwargs: Any) -> Any:
        kept.append(raw(*args, **kwargs))
        return kept[-1]

    with torch.no_grad(), patch.object(stop.owner, stop.method, noting):
        output()
    if not kept:
        raise Violation(f"the gradient is declared to stop at {stop.method}, which the output does not ask")
    return kept
