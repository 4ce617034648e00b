"""A fixture as a pytest test: one more example of its claim, or a known failure that is still there."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

import lora_lite as ll
from properties.judging import journal
from properties.judging.assertions import Violation
from properties.judging.claim import Claim, load_claims
from properties.judging.outcome import BROKEN, CRASHED, HELD, NOT_JUDGED, Outcome
from properties.judging.under_pytest import leave
from properties.regressions.fixture import Fixture, FixtureError, read
from properties.regressions.record import replay_command
from properties.regressions.replay import replay
from strategies.recipes import from_json, pasteable


def replay_as_test(path: Path, request: pytest.FixtureRequest) -> None:
    """Raises what pytest takes for a failed or an expected failure, or the crash of the code under test."""
    try:
        fixture = read(path)
        # Should its process die, this is what it was doing.
        if (known := load_claims().get(fixture.claim)) is not None:
            journal.note_claim(fixture.claim, fixture.variant, known.stage)
            skip_unless_judged(known, fixture, request)
        failure = failure_of(fixture, path)
    except FixtureError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    if fixture.expect == "fail":
        check_known(fixture, path, failure)
        # Known or not, the claim is broken.
        known_as = f"{failure} (known: {fixture.reason}, {fixture.link})"
        leave(request, replace(outcome_of(fixture, failure, request), why=known_as))
        pytest.xfail(f"{fixture.reason} ({fixture.link})")
    leave(request, outcome_of(fixture, failure, request))
    if isinstance(failure, Violation):
        told = f"{failure}\nrecipe   {pasteable(failure.case)}\nfixture  {path}"
        pytest.fail(f"{fixture.claim} [{fixture.variant}]\n{told}", pytrace=False)
    if failure is not None:
        raise failure


def skip_unless_judged(claim: Claim, fixture: Fixture, request: pytest.FixtureRequest) -> None:
    """A fixture needs what its claim needs: without it nothing can be said, here as there."""
    variant = ll.VARIANTS.get(fixture.variant)
    if variant is not None and (standing := claim.standing(variant)).state == NOT_JUDGED:
        leave(request, Outcome(claim.name, variant.name, claim.stage, NOT_JUDGED, standing.why))
        pytest.skip(f"not judged: {standing.why}")


def failure_of(fixture: Fixture, path: Path) -> Exception | None:
    """What the replay ends in. Raises FixtureError."""
    try:
        replay(fixture, path)
    except FixtureError:
        raise
    except Exception as error:
        return error
    return None


def check_known(fixture: Fixture, path: Path, failure: Exception | None) -> None:
    """A known failure is still there, and still the same kind of failure."""
    if failure is None:
        gone = f"{path}: the known failure is gone ({fixture.reason}). Set expect to pass."
        pytest.fail(gone, pytrace=False)
    crash = None if isinstance(failure, Violation) else f"{type(failure).__name__}: {failure}"
    if crash is not None and crash.partition(":")[0] != fixture.error.partition(":")[0]:
        known = f"the known failure is {fixture.error!r}, and it ends in {crash!r} now"
        pytest.fail(f"{path}: {known}. Bring the recipe up to date, or record it anew.", pytrace=False)


def outcome_of(fixture: Fixture, failure: Exception | None, request: pytest.FixtureRequest) -> Outcome:
    """One more example of the claim."""
    state = HELD if failure is None else BROKEN if isinstance(failure, Violation) else CRASHED
    return Outcome(
        fixture.claim,
        fixture.variant,
        load_claims()[fixture.claim].stage,
        state,
        str(failure or ""),
        getattr(failure, "tensor", None),
        examples=1,
        budget=settings().max_examples,
        recipe=pasteable(from_json(fixture.recipe)),
        replay=replay_command(request.config, f"-k {fixture.test_id()}", []),
        nodeid=request.node.nodeid,
        replayed=True,
    )
