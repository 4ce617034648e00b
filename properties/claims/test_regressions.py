"""Every failure that was ever found, on every run and before anything is drawn."""

from pathlib import Path

import pytest
from hypothesis import settings

import lora_lite as ll
from properties.judging.assertions import Violation
from properties.judging.claim import load_claims
from properties.judging.outcome import BROKEN, CRASHED, HELD, Outcome
from properties.judging.under_pytest import leave
from properties.regressions.fixture import Fixture, FixtureError, paths_in, read
from properties.regressions.record import replay_command, replayed_folders
from properties.regressions.replay import replay
from strategies.recipes import from_json, pasteable


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a fixture.

    What cannot be read, or is about a variant that no longer exists, is a test too: it fails.
    """
    if "regression" not in metafunc.fixturenames:
        return
    load_claims()  # a second of imports, which is not to count as a replay's
    others = set(ll.VARIANTS) - set(metafunc.config.getoption("--variant") or ll.VARIANTS)
    found = []
    # Found again after it was adopted, a failure lies in two folders under one name: the tree's comes first.
    paths = {
        path.name: path for folder in reversed(replayed_folders(metafunc.config)) for path in paths_in(folder)
    }
    for path in sorted(paths.values()):
        try:
            fixture = read(path)
        except FixtureError:
            found.append((str(path), path.stem))
        else:
            if fixture.variant not in others:
                found.append((str(path), fixture.test_id()))
    metafunc.parametrize("regression", [path for path, _ in found], ids=[name for _, name in found])


def test_regressions(regression: str, request: pytest.FixtureRequest) -> None:
    """The claim holds on the recipe that once failed it; a known failure still fails, and says so once it
    does not.
    """
    path = Path(regression)
    try:
        fixture = read(path)
        failure = failure_of(fixture, path)
    except FixtureError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    if fixture.expect == "fail":
        check_known(fixture, path, failure)
        pytest.xfail(f"{fixture.reason} ({fixture.link})")
    leave(request, outcome_of(fixture, failure, request))
    if isinstance(failure, Violation):
        told = f"{failure}\nrecipe   {pasteable(failure.case)}\nfixture  {path}"
        pytest.fail(f"{fixture.claim} [{fixture.variant}]\n{told}", pytrace=False)
    if failure is not None:
        raise failure


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
