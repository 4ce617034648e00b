"""How a claim runs as a pytest test: one outcome record, a failure that is told in short, a fixture of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import pytest
from hypothesis import settings
from hypothesis.errors import HypothesisException

import lora_lite as ll
from properties.judging import journal
from properties.judging.assertions import Violation
from properties.judging.claim import ANY, Claim
from properties.judging.declared import confirm
from properties.judging.expected import OracleError
from properties.judging.needs import Standing
from properties.judging.outcome import (
    BROKEN,
    CRASHED,
    DECLARED,
    HELD,
    NOT_JUDGED,
    Meter,
    NothingComparedError,
    NotJudgedError,
    Outcome,
)
from strategies.recipes import pasteable

# The name of an outcome among the properties of pytest's report, which carries it over workers.
RECORD = "outcome"
# So many times the examples, where those of the budget had nothing to compare of something that is claimed.
SELDOM = 10


@dataclass(frozen=True)
class Kept:
    """What is left of a failure. written: the fixture, or why there is none; "" where none is wanted."""

    written: str
    replay: str


class Keeper(Protocol):
    """Writes a failure down, of a claim that failed on `error.case` where a drawn case was at fault."""

    def __call__(
        self, request: pytest.FixtureRequest, claim: Claim, variant: str | None, error: Exception
    ) -> Kept: ...


# What writes failures down, which the plugin puts here: what is judged knows nothing of fixtures.
KEEPER = pytest.StashKey[Keeper]()


def run_as_test(claim: Claim, variant: str | None, request: pytest.FixtureRequest) -> None:
    """Under pytest's budget. A claim that lacks something that it needs is skipped, with the reason."""
    if (standing := _standing(claim, variant)).state is not None:
        leave(request, Outcome(claim.name, variant, claim.stage, NOT_JUDGED, standing.why))
        pytest.skip(f"not judged: {standing.why}")
    with judged(claim, variant, request) as meter:
        try:
            claim.run(variant, settings(), meter)
        except NothingComparedError:
            claim.run(variant, settings(max_examples=SELDOM * settings().max_examples), meter)
        if claim.subject != ANY and variant is not None:
            meter.declared = confirm(claim, variant, settings()) or meter.declared


def _standing(claim: Claim, variant: str | None) -> Standing:
    if claim.subject == ANY and variant is not None:
        return claim.standing_of(variant)
    return claim.standing(None if variant is None else ll.VARIANTS[variant])


def leave(request: pytest.FixtureRequest, outcome: Outcome) -> None:
    """Put the record on the test's report."""
    request.node.user_properties.append((RECORD, outcome.to_json()))


@contextmanager
def judged(claim: Claim, variant: str | None, request: pytest.FixtureRequest) -> Iterator[Meter]:
    """What comes of the body is one outcome; a violation is told in short, a crash in full."""
    meter, began = Meter(), time.perf_counter()
    journal.note_claim(claim.name, variant, claim.stage)
    budget, nodeid = settings().max_examples, request.node.nodeid
    # Until the body is through, nothing is known: an interrupt ends it too.
    outcome = Outcome(
        claim.name, variant, claim.stage, NOT_JUDGED, "the run was cut off", budget=budget, nodeid=nodeid
    )
    failure: str | None = None
    try:
        yield meter
        state = DECLARED if meter.declared else HELD
        outcome = replace(outcome, state=state, why=meter.declared)
    except Violation as violation:
        outcome, failure = _failed(outcome, BROKEN, str(violation), violation, claim, request)
    except NotJudgedError as missing:
        outcome = replace(outcome, state=NOT_JUDGED, why=str(missing))
        pytest.skip(f"not judged: {missing}")
    except (OracleError, HypothesisException) as error:
        # The suite is at fault and cannot judge: nothing is said of the method.
        outcome = replace(outcome, state=NOT_JUDGED, why=f"{type(error).__name__}: {error}")
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        outcome, told = _failed(outcome, CRASHED, why, error, claim, request)
        error.add_note(told.removeprefix(why).strip())
        raise
    finally:
        seconds = time.perf_counter() - began
        leave(
            request,
            replace(outcome, examples=meter.examples, worst=meter.worst, shown=meter.shown, seconds=seconds),
        )
    if outcome.state == DECLARED:
        pytest.xfail(f"declared: {outcome.why}")
    if failure is not None:
        of = f" [{variant}]" if variant else ""
        # From None: what is told here is not to be told a second time as this one's context.
        raise pytest.fail.Exception(f"{claim.name}{of}\n{failure}", pytrace=False) from None


def _failed(
    outcome: Outcome, state: str, why: str, error: Exception, claim: Claim, request: pytest.FixtureRequest
) -> tuple[Outcome, str]:
    """The outcome of a failure, and how it is told."""
    kept = request.config.stash[KEEPER](request, claim, outcome.method, error)
    case, tensor = getattr(error, "case", None), getattr(error, "tensor", None)
    recipe = None if case is None else pasteable(case)
    lines = {"recipe": recipe, "written": kept.written, "replay": kept.replay}
    told = "\n".join([why, *(f"{name:<9}{line}" for name, line in lines.items() if line)])
    return replace(outcome, state=state, why=why, tensor=tensor, recipe=recipe, replay=kept.replay), told
