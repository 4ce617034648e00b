"""While a run lasts: what is being judged, how far it is, what has failed so far; each failure at once."""

import time
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from properties.judging.under_pytest import RECORD

# In a log, where a line cannot be written over.
EVERY = 30.0


class Progress:
    """In place of pytest's dots: one live line on a terminal, one line every half minute in a log.

    Failures are told when they happen, in one line; what they are in full comes at the end as ever. With -v
    pytest's own lines say it all.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.began = self.told = time.monotonic()
        self.total = 0
        self.done: set[str] = set()
        self.failed: list[str] = []

    @property
    def reporter(self) -> Any:
        """pytest's own, which writes; None where it was switched off."""
        return self.config.pluginmanager.getplugin("terminalreporter")

    def pytest_sessionstart(self) -> None:
        if self.reporter is not None:
            # Percentages belong to the dots, and names of files to what stands beside them.
            self.reporter._show_progress_info = self.reporter.showfspath = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.total = len(session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        self.total = len(ids)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
        """The same category and word, and no letter."""
        category, letter, word = yield
        return category, "" if isinstance(letter, str) else letter, word

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._tell(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)
            self._line(f"FAILED {report.nodeid}\n       {_first_line(report)}", keep=True)
        if report.when == "teardown" or report.failed:
            self.done.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        if self.reporter is not None and self.reporter.isatty:
            self.reporter.rewrite("", erase=True)

    def _tell(self, nodeid: str) -> None:
        """What begins now; with workers, on one of them. A terminal's line is written anew ten times a second
        at most.
        """
        live = self.reporter is not None and self.reporter.isatty
        if time.monotonic() - self.told >= (0.1 if live else EVERY):
            self.told = time.monotonic()
            of = f"{len(self.done):,} of {self.total:,}" if self.total else f"{len(self.done):,}"
            seconds = round(self.told - self.began)
            test = nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
            self._line(f"{of} in {seconds} s, {len(self.failed)} failed: {test}", keep=not live)

    def _line(self, text: str, *, keep: bool) -> None:
        reporter = self.reporter
        if reporter is None:
            return
        width = reporter._tw.fullwidth - 1
        if keep:
            reporter.ensure_newline()
            reporter.write_line(text)
        else:
            reporter.rewrite(text[:width], erase=True)


def _first_line(report: pytest.TestReport) -> str:
    """What is wrong: what the claim's outcome says, of other tests what was raised."""
    left: list[tuple[str, Any]] = report.user_properties
    why = next((value["why"] for name, value in left if name == RECORD), None)
    crash = getattr(getattr(report.longrepr, "reprcrash", None), "message", None)
    lines = str(why or crash or report.longreprtext).splitlines()
    return lines[0] if lines else ""
