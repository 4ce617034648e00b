"""Which code of the library, and of a user's variants, a claim runs: no mutant elsewhere matters to it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from hypothesis import Phase, settings
from hypothesis.errors import Unsatisfiable

import lora_lite as ll
from properties.judging.claim import Claim
from properties.judging.outcome import NothingComparedError
from strategies.options import forget

LIBRARY = str(Path(ll.__file__).parent)
# The simplest case and another one tell which code a claim runs.
REACH = 2


def budget(examples: int, *, shrink: bool) -> settings:
    """Examples for one cell: no database, no replay, no explaining."""
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    return settings(settings(), max_examples=examples, database=None, phases=phases)


@dataclass(frozen=True)
class Reach:
    """The code of lora_lite, and of a user's variants, that a property runs on REACH cases; fails: how it
    fails on correct code, where it does.
    """

    code: frozenset[CodeType]
    fails: str | None


def reach(made: Claim, variant: str) -> Reach:
    """Measured once a process: the same cases each time, and as many for a property with a small share."""
    return _reach(made, None if made.cases is None else variant)


@contextmanager
def nothing_remembered() -> Iterator[None]:
    """Drawing asks the library what it accepts, and remembers: no answer of a mutant may reach another, or
    correct code.
    """
    forget()
    try:
        yield
    finally:
        forget()


@contextmanager
def tracing(note: Callable[[FrameType, str, Any], Any]) -> Iterator[None]:
    """Every call is told meanwhile; setprofile would tell of returns too, and of every function in C."""
    before = sys.gettrace()
    sys.settrace(note)
    try:
        yield
    finally:
        sys.settrace(before)


@cache
@nothing_remembered()
def _reach(made: Claim, variant: str | None) -> Reach:
    seen, fails = set[CodeType](), None
    users = {sys.modules[v.__module__].__file__ for v in ll.VARIANTS.values()}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_filename.startswith(LIBRARY) or frame.f_code.co_filename in users:
            seen.add(frame.f_code)

    try:
        with tracing(note):
            replace(made, share=1.0).run(variant, settings(budget(REACH, shrink=False), derandomize=True))
    except (Unsatisfiable, NothingComparedError):
        pass  # the claim is about none of these few
    except Exception as error:
        fails = " ".join(f"{type(error).__name__}: {error}".split())
    return Reach(frozenset(seen), fails)
