"""A mutant for a whole run, its code counted as the lines that it stands in for: the trace finds it."""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from types import CodeType
from typing import Any

import pytest

from properties.mutation import Mutant, load_catalogue


@contextmanager
def injected(name: str) -> Iterator[Mutant]:
    """The named mutant of the catalogue. Raises UsageError where there is none of that name."""
    catalogue = load_catalogue()
    if name not in catalogue:
        near = get_close_matches(name, catalogue, n=5) or [
            known for known in catalogue if name.partition("_")[0] in known
        ]
        listed = (
            f"{', '.join(near) or 'none like it'}. All {len(catalogue)} stand in"
            " properties/mutation/catalogue/"
        )
        raise pytest.UsageError(f"--mutant: no mutant {name}; near it: {listed}")
    mutant = catalogue[name]
    originals: dict[Any, CodeType] = {target: target.__code__ for target in mutant.targets}
    with mutant.injected():
        for function, original in originals.items():
            function.__code__ = moved(function.__code__, original.co_filename, original.co_firstlineno - 1)
        yield mutant


def moved(code: CodeType, filename: str, lines: int) -> CodeType:
    """The code, and the code inside it, as if it stood so many lines further down in this file."""
    inside = tuple(
        moved(part, filename, lines) if isinstance(part, CodeType) else part for part in code.co_consts
    )
    return code.replace(co_filename=filename, co_firstlineno=code.co_firstlineno + lines, co_consts=inside)
