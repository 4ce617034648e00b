"""Runs of pytest whose tests kill their process, or wait to be interrupted."""

import json
import os
import time
from pathlib import Path
from typing import Any

from properties.instruments.sessions import Session

ROOT = Path(__file__).parents[2]

# Writes down what a gatherer of reports gets, in the process that reports; and tells what a child carried.
CONFTEST = """
import json, os, time
from pathlib import Path
import pytest

PARENT = os.getpid()
pytest_plugins = ["properties.plugin"]
gathered = []

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Gatherer(), "gatherer")

def pytest_sessionstart(session):
    if (crashes := session.config.pluginmanager.getplugin("crashes")) is not None:
        crashes.carry(drained, gathered.extend)

def drained():
    time.sleep(0.05)  # so that it is not asked for after each test
    taken = gathered[:]
    gathered.clear()
    return taken

class Gatherer:
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self):
        time.sleep(0.05 if os.getpid() == PARENT else 0)  # a child does not run ahead of its parent

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.failed:
            crashed = dict(report.user_properties).get("crashed")
            line = {"when": report.when, "outcome": report.outcome, "crashed": crashed}
            with Path("reports").open("a") as file:
                file.write(json.dumps({report.nodeid: {**line, "text": report.longreprtext}}) + "\\n")

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.write_line(f"gathered: {sorted(gathered)}")
"""

DYING = """
import ctypes, os, signal
import pytest
from conftest import gathered
from properties.judging.journal import note
from properties.regressions.fixture import read

DEATHS = {
    "abort": os.abort,
    "null": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
}

@pytest.fixture(scope="module")
def made():
    yield
    with open("torn", "a") as file:
        file.write("down ")

def test_before(made):
    gathered.append("before")

@pytest.mark.parametrize("death", DEATHS)
def test_dies(made, death):
    print("said", death)
    note(death)
    DEATHS[death]()

def test_after(made):
    print("said after")
    gathered.append("after")

def test_last(made):
    gathered.append("last")
"""

WAITING = """
import os, time
import pytest

@pytest.fixture(scope="module")
def made():
    yield
    open("tearing", "w").close()
    time.sleep(0.5)
    open("torn", "w").close()

def test_before(made):
    pass

def test_waits(made):
    with open("writing", "w") as file:
        file.write(str(os.getpid()))
    os.rename("writing", "waits")
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            if not os.path.exists("stubborn"):
                raise

def test_after(made):
    pass
"""


def started(folder: Path, test: str, *arguments: str) -> Session:
    """pytest on this one file, in a session of processes of its own."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(test)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    instruments: of the suite\n")
    # Under CI another profile is the default one, and a replay command says so.
    mine = ("PYT", "CI")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    environment |= {"PYTHONPATH": f"{ROOT}", "COLUMNS": "200", "TMPDIR": f"{folder}"}
    return Session(folder, ("-p", "no:cacheprovider", "test_it.py", *arguments), environment)


def ended(folder: Path, test: str, *arguments: str) -> tuple[int, str, dict[str, dict[str, Any]]]:
    """The exit code, what was printed, and the reports by name of the test."""
    code, printed = started(folder, test, *arguments).ended()
    lines = (folder / "reports").read_text().splitlines() if (folder / "reports").exists() else []
    reports = {nodeid.partition("::")[2]: one for line in lines for nodeid, one in json.loads(line).items()}
    return code, printed, reports


def waited_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
