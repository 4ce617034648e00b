"""What a run says while it lasts."""

from types import SimpleNamespace
from typing import Any

import pytest

from properties import progress
from properties.progress import EVERY, Progress

pytestmark = pytest.mark.instruments


class Screen:
    """What pytest's reporter would write: lines that stay, and the live one as it was each time."""

    def __init__(self, *, isatty: bool, width: int = 60) -> None:
        self.isatty, self._tw = isatty, SimpleNamespace(fullwidth=width)
        self.kept: list[str] = []
        self.live: list[str] = []

    def ensure_newline(self) -> None:
        pass

    def write_line(self, text: str) -> None:
        self.kept += text.splitlines()

    def rewrite(self, text: str, *, erase: bool) -> None:
        assert erase
        self.live.append(text)


def watched(screen: Screen, seconds: float, monkeypatch: pytest.MonkeyPatch) -> Progress:
    """A run of three tests, each of so many seconds, of which the second fails, on two workers."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    config: Any = SimpleNamespace(pluginmanager=SimpleNamespace(getplugin=lambda name: screen))
    watch = Progress(config)
    names = [f"claims/test_it.py::test_{name}_holds[lora]" for name in ("one", "another", "the_last")]
    watch.pytest_xdist_node_collection_finished(None, names)
    for name in names:
        watch.pytest_runtest_logstart(name)
        clock.now += seconds
        for when in ("setup", "call", "teardown"):
            failed = when == "call" and "another" in name
            report: Any = SimpleNamespace(
                nodeid=name,
                when=when,
                failed=failed,
                user_properties=[],
                longrepr=None,
                longreprtext="wrong\n",
            )
            watch.pytest_runtest_logreport(report)
    return watch


FAILED = ["FAILED claims/test_it.py::test_another_holds[lora]", "       wrong"]


def test_a_log_says_each_half_minute_what_is_being_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """And each failure at once."""
    watched(screen := Screen(isatty=False), EVERY, monkeypatch)
    first = "1 of 3 in 30 s, 0 failed: another holds[lora]"
    assert screen.kept == [first, *FAILED, "2 of 3 in 60 s, 1 failed: the last holds[lora]"]
    watched(quick := Screen(isatty=False), 1.0, monkeypatch)
    assert (quick.kept, quick.live) == (FAILED, [])


def test_a_terminal_has_one_live_line_of_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watched(screen := Screen(isatty=True, width=30), 0.2, monkeypatch)
    assert screen.live == ["1 of 3 in 0 s, 0 failed: anot", "2 of 3 in 0 s, 1 failed: the "]
    assert screen.kept == FAILED
    watch.pytest_sessionfinish()
    assert screen.live[-1] == ""
