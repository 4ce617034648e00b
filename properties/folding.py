"""Where many tests crash in the same way, the end of a run tells it once, with the names of the others."""

from collections import defaultdict
from collections.abc import Generator, Sequence
from typing import Any

import pytest
from _pytest.reports import BaseReport

# Where it was raised, and what.
Place = tuple[str, int, str]


class Folding:
    """Takes the others out while pytest tells failures in full, and puts them back for its short summary."""

    def __init__(self) -> None:
        self.whole: list[BaseReport] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None, object, object]:
        self.whole = terminalreporter.stats.get("failed", [])
        if self.whole:
            terminalreporter.stats["failed"] = folded(self.whole)
        return (yield)


class Unfolding:
    """Between the two: what is no wrapper runs after those that come first."""

    def __init__(self, folding: Folding) -> None:
        self.folding = folding

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.folding.whole:
            terminalreporter.stats["failed"] = self.folding.whole


def folded(reports: Sequence[BaseReport]) -> list[BaseReport]:
    """The first of each crash, with the names of those that crashed alike."""
    alike: defaultdict[Place, list[BaseReport]] = defaultdict(list)
    for report in reports:
        if (place := _place(report)) is not None:
            alike[place].append(report)
    left = []
    for report in reports:
        first, *others = alike.get(_place(report), [report])  # type: ignore[arg-type]  # None is no key
        if report is first:
            left.append(report)
            if others:
                names = "\n".join(other.nodeid for other in others)
                report.sections.append((f"the same crash in {len(others)} more", names))
    return left


def _place(report: BaseReport) -> Place | None:
    """Of a crash; None of a claim that is broken, which is told without a trace."""
    crash: Any = getattr(report.longrepr, "reprcrash", None)
    trace = getattr(report.longrepr, "reprtraceback", None)
    if crash is None or trace is None or not trace.reprentries:
        return None
    return str(crash.path), crash.lineno, crash.message.split("\n", 1)[0]
