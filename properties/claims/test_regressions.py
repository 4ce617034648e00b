"""Every failure that was ever found, on every run and before anything is drawn."""

from pathlib import Path

import pytest

import lora_lite as ll
from properties.judging.assertions import Violation
from properties.judging.claim import load_properties
from properties.regressions.fixture import FixtureError, paths_in, read
from properties.regressions.record import replayed_folders
from properties.regressions.replay import replay
from strategies.recipes import pasteable


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a fixture.

    What cannot be read, or is about a variant that no longer exists, is a test too: it fails.
    """
    if "regression" not in metafunc.fixturenames:
        return
    load_properties()  # a second of imports, which is not to count as a replay's
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


def test_regressions(regression: str) -> None:
    """The property holds on the recipe that once failed it; a known failure still fails, and says so once it
    does not.
    """
    path = Path(regression)
    try:
        fixture = read(path)
        failure: Exception | None = None
        try:
            replay(fixture, path)
        except FixtureError:
            raise
        except Exception as error:
            failure = error
    except FixtureError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    if fixture.expect == "fail":
        if failure is None:
            pytest.fail(
                f"{path}: the known failure is gone ({fixture.reason}). Set expect to pass.", pytrace=False
            )
        crash = None if isinstance(failure, Violation) else f"{type(failure).__name__}: {failure}"
        if crash is not None and crash.partition(":")[0] != fixture.error.partition(":")[0]:
            known = f"the known failure is {fixture.error!r}, and it ends in {crash!r} now"
            pytest.fail(f"{path}: {known}. Bring the recipe up to date, or record it anew.", pytrace=False)
        pytest.xfail(f"{fixture.reason} ({fixture.link})")
    if isinstance(failure, Violation):
        told = f"{failure}\nrecipe   {pasteable(failure.case)}\nfixture  {path}"
        pytest.fail(f"{fixture.property} [{fixture.variant}]\n{told}", pytrace=False)
    if failure is not None:
        raise failure
