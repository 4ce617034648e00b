"""Which code of the library, and of a user's variants, a claim runs: no mutant elsewhere matters to it."""

import sys
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


@cache
def _reach(made: Claim, variant: str | None) -> Reach:
    seen: set[CodeType] = set()
    users = {sys.modules[v.__module__].__file__ for v in ll.VARIANTS.values()}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_filename.startswith(LIBRARY) or frame.f_code.co_filename in users:
            seen.add(frame.f_code)

    # Tells of calls alone, where setprofile would tell of returns and of every function in C.
    before, fails = sys.gettrace(), None
    # What a mutant had drawing remember is not so here.
    forget()
    sys.settrace(note)
    try:
        replace(made, share=1.0).run(variant, settings(budget(REACH, shrink=False), derandomize=True))
    except (Unsatisfiable, NothingComparedError):
        pass  # the claim is about none of these few
    except Exception as error:
        fails = " ".join(f"{type(error).__name__}: {error}".split())
    finally:
        sys.settrace(before)
        forget()
    return Reach(frozenset(seen), fails)
