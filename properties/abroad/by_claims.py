"""What the claims about every library notice of a mutant: what --subject would."""

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from properties.abroad.mutants import Line, lines_of
from properties.judging.assertions import Violation
from properties.judging.claim import Claim, load_claims_of_any
from properties.judging.outcome import NothingComparedError, NotJudgedError
from properties.mutation.mutant import Mutant
from properties.mutation.reach import budget, tracing
from properties.mutation.score import Outcome
from properties.subjects.library import RefusedError


@dataclass(frozen=True)
class Ran:
    """Of a claim on correct code: the lines that it runs, how many of its cases are refused, and whether it
    breaks on one.
    """

    lines: frozenset[Line]
    refused: int
    breaks: bool


# By method and claim, those that are cheap first.
Baseline = Mapping[str, Mapping[str, Ran]]


def run_by(held: Baseline) -> set[Line]:
    """The lines that any of the claims runs."""
    return {line for claims in held.values() for ran in claims.values() for line in ran.lines}


def baseline(methods: Iterable[str], files: set[str], examples: int) -> Baseline:
    """Of correct code. What breaks there already is asked of those cases alone on which it holds."""
    found: dict[str, dict[str, Ran]] = {}
    for method in methods:
        held: dict[str, tuple[float, Ran]] = {}
        for name, made in load_claims_of_any().items():
            # A slow one runs in processes that no mutant reaches.
            if made.slow or made.standing_of(method).state is not None:
                continue
            lines, broken, began = set[Line](), list[Exception](), time.process_time()
            try:
                with _noting(files, lines):
                    meter = _past(made, broken).run(method, budget(examples, shrink=False))
            except Exception:  # all of it is refused, or no claim about this method
                continue
            ran = Ran(frozenset(lines), meter.shown.get("refused", 0), bool(broken))
            held[name] = (time.process_time() - began, ran)
        found[method] = {name: ran for name, (_, ran) in sorted(held.items(), key=lambda item: item[1][0])}
    return found


def _past(made: Claim, broken: list[Exception]) -> Claim:
    """It goes on where it breaks."""

    def check(case: Any) -> None:
        try:
            made.check(case)
        except RefusedError:
            raise
        except Exception as error:
            broken.append(error)

    return replace(made, check=check)


def _where_it_holds(made: Claim, mutant: Mutant) -> Claim:
    """Asked with the mutant, of a case on which it holds without."""

    def check(case: Any) -> None:
        broken: list[Exception] = []
        _past(made, broken).check(case)
        if not broken:
            with mutant.injected():
                made.check(case)

    return replace(made, check=check)


def _noting(files: set[str], lines: set[Line]) -> AbstractContextManager[None]:
    """Every line of these files that runs meanwhile."""

    def note(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return note

    return tracing(note)


def judged(mutant: Mutant, *, held: Baseline, examples: int) -> Outcome:
    """The first claim that notices, on any method that runs a changed line."""
    changed, asked = lines_of(mutant), load_claims_of_any()
    for method, claims in held.items():
        for name, ran in claims.items():
            if ran.lines & changed and (state := _asked(asked[name], mutant, method, ran, examples)):
                kind, why = state
                return Outcome(mutant.name, kind, name, method, why[:200])
    return Outcome(mutant.name, "survived")


def _asked(made: Claim, mutant: Mutant, method: str, ran: Ran, examples: int) -> tuple[Any, str] | None:
    """Killed or loud, and why; None where the claim holds as before. What alone is refused now is loud."""
    asked, state = (_where_it_holds(made, mutant), nullcontext()) if ran.breaks else (made, mutant.injected())
    try:
        with state:
            meter = asked.run(method, budget(examples, shrink=False))
    except Violation as violation:
        return "killed", str(violation).splitlines()[0]
    except NothingComparedError:
        return None
    except NotJudgedError as error:
        return "loud", str(error)
    except Exception as error:
        return "loud", f"{type(error).__name__}: {error}"
    refused = meter.shown.get("refused", 0) - ran.refused
    return ("loud", f"{refused} more cases are refused") if refused > 0 else None
