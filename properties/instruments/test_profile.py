"""Tests of the sampler that says where a run's processor time goes. No test asserts a time."""

import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest

from properties.oracles import ORACLES
from properties.speed.profile import profiled, stage_of, table
from strategies import trained_layers

pytestmark = pytest.mark.instruments

BUSY = """
import os, time

def busy(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass

def test_long():
    busy(1.0)

def test_short():
    busy(0.2)

def test_dies():
    busy(0.7)
    os.abort()
"""


def stage_inside(called: object, *given: object) -> str:
    """The stage of the first frame of a function's own."""
    seen: list[FrameType] = []
    with suppress(AttributeError, TypeError):  # what it is given is nothing that it takes
        sys.settrace(lambda frame, event, argument: seen.append(frame))
        try:
            called(*given)  # type: ignore[operator]
        finally:
            sys.settrace(None)
    return stage_of(seen[0])


def test_a_frame_is_of_the_stage_that_called_torch() -> None:
    assert stage_inside(ORACLES["lora"].forward, *[None] * 7) == "oracle"
    assert stage_inside(trained_layers, "lora") == "drawing"
    assert stage_of(sys._getframe()) == "tests of the suite"
    assert stage_of(None) == "elsewhere"


def test_a_table_adds_up_what_the_processes_saw(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_text('["test_a", "oracle", 3000000]\n["test_b", "running", 500000]\n')
    (tmp_path / "2.jsonl").write_text('["test_a", "running", 500000]\n')
    lines = list(table(tmp_path, 4.0, 1))
    assert lines[0].startswith("4 s of wall time, 4 s of processor time, ")
    assert [" ".join(line.split()) for line in lines[1:]] == [
        *("", "3.0 s 75.0 % oracle", "1.0 s 25.0 % running"),
        *("", "3.5 s 87.5 % test_a"),
    ]


@pytest.mark.slow
def test_what_a_dead_process_did_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_it.py").write_text(BUSY)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[2]}")
    options = ("-p", "properties.plugin", "-p", "no:cacheprovider", f"--rootdir={tmp_path}")
    last, _, *rows = profiled([f"{tmp_path / 'test_it.py'}", *options])
    assert "1 failed, 2 passed" in last
    order = [row.split()[-1] for row in rows if "test_" in row]
    assert order[:3] == ["test_long", "test_dies", "test_short"]
