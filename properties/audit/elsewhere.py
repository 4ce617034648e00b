"""The recipe on which a claim breaks, tried on the same method of every other library that the run judges."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import find

from properties.judging.assertions import Violation
from properties.judging.claim import load_claims_of_any
from properties.judging.outcome import (
    BROKEN,
    CRASHED,
    HELD,
    NOT_APPLICABLE,
    NOT_JUDGED,
    NotJudgedError,
    Outcome,
)
from properties.subjects.bindings import BINDINGS
from properties.subjects.library import LibraryCase, RefusedError, Settings
from properties.subjects.living import library_cases
from strategies.recipes import pasted


def kin(method: str, methods: Sequence[str]) -> list[str]:
    """The same method of other libraries: of the same name there, or bound to the same oracle."""

    library, _, name = method.partition(":")
    beside = [other.partition(":") for other in methods if not other.startswith(f"{library}:")]
    names = {name, _formula(method)}
    return ["".join(other) for other in beside if {other[2], _formula("".join(other))} & names]


def _formula(method: str) -> str:
    """The oracle's name, which is lora_lite's own; where there is none, the method's."""
    return BINDINGS[method].oracle if method in BINDINGS else method.partition(":")[2]


def told(outcome: Outcome, methods: Sequence[str]) -> dict[str, str]:
    """What comes of the failing recipe on each of them: base, input and seed are the same, and so is each
    setting that both have under one name.
    """
    if not outcome.failed or outcome.recipe is None or outcome.method is None:
        return {}
    found = kin(outcome.method, methods)
    case: Any = pasted(outcome.recipe) if found else None
    return {method: _tried(outcome.claim, replace(case, method=method)) for method in found}


def _tried(name: str, case: LibraryCase) -> str:
    claim = load_claims_of_any()[name]
    if claim.standing_of(case.method).state is not None:
        return NOT_APPLICABLE
    try:
        claim.judge(replace(case, settings=_settings(case)))
    except Violation:
        return BROKEN
    except RefusedError:
        return "refused"
    except NotJudgedError:
        return NOT_JUDGED
    except Exception as error:
        # Of somebody else's code, about which this page tells what became of it.
        return f"{CRASHED}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return HELD


def _settings(case: LibraryCase) -> Settings:
    """The simplest of this method, with the values of the case's where it has them too."""
    given = dict(case.settings)
    simplest = find(library_cases(case.method), lambda other: True).settings
    return tuple((name, given.get(name, value)) for name, value in simplest)
