"""Every failure that was ever found, on every run and before anything is drawn."""

from pathlib import Path

import pytest

import lora_lite as ll
from properties.judging.claim import load_claims
from properties.regressions.fixture import FixtureError, paths_in, read
from properties.regressions.record import replayed_folders
from properties.regressions.running import replay_as_test


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
    replay_as_test(Path(regression), request)
