"""The pytest side of the audit: gathers what the tests report, on this process and on workers, and hands it
to the judge.
"""

import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lora_lite as ll
from properties.audit.evidence import Evidence, Speed
from properties.audit.matrix import matrix
from properties.audit.measure import PARTS
from properties.audit.report import BUGGY, Failure, Measured
from properties.audit.terminal import summary, table
from properties.judging.claim import PROPERTIES
from properties.mutation.matrix import Cell, Row
from properties.regressions import travel
from properties.regressions.record import replay_command

if TYPE_CHECKING:
    from properties.audit.report import Report
    from properties.audit.tracing import Tracer

SENT = "lora_lite_coverage"
# The test that replays a fixture, named after its property.
REPLAY = "test_regressions"
# A test that leaves one of these speaks of the library, and one that leaves none of the suite.
JUDGES = {"measured", "facts", "probe", "capability", "crashed"}


class Collector:
    """Listens to pytest.

    With --audit, also to which code each test runs; a mutation's own runs are left out of that.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.folder: str | None = config.getoption("--audit")
        self.reports: list[pytest.TestReport] = []
        self.broken: list[pytest.CollectReport] = []
        self.began = time.perf_counter()
        self.speed = _speed(config)
        self.tracer = None if self.folder is None else _tracer()
        if self.tracer is not None and (crashes := config.pluginmanager.getplugin("crashes")) is not None:
            crashes.carry(self._traced, self.tracer.add)
        self.report: Report | None = None
        self.written: list[Path] = []

    def pytest_sessionstart(self) -> None:
        if self.tracer is not None:
            self.tracer.imported()

    def _traced(self) -> bytes:
        """Since it was last asked."""
        assert self.tracer is not None
        data = self.tracer.coverage.get_data()
        dumped = data.dumps()
        data.erase()
        return dumped

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.broken.append(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.append(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        traced = self.tracer is not None and item.get_closest_marker("mutation") is None
        with self.tracer.during(item.nodeid) if traced and self.tracer else nullcontext():
            return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker that died has sent nothing; the rest of the report stands."""
        dumped = getattr(node, "workeroutput", {}).get(SENT)
        if dumped is not None and self.tracer is not None:
            self.tracer.add(dumped)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A worker sends what it traced; the process that started it judges, and writes whatever came of the
        run.
        """
        if self.folder is None or session.config.option.collectonly:
            return
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output[SENT] = self.tracer.dumps() if self.tracer else None
            return
        # Template engine, plotting and schema are wanted here alone.
        from properties.audit.judge import judge
        from properties.audit.provenance import provenance_of
        from properties.audit.render import write

        found = self.evidence()
        provenance = provenance_of(session.config, seconds=found.seconds, tests=found.tests)
        wanted = session.config.getoption("--variant") or list(ll.VARIANTS)
        self.report = judge(found, self.tracer, provenance, [name for name in ll.VARIANTS if name in wanted])
        self.written = write(self.report, Path(self.folder))
        if self.report.verdict == BUGGY and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> None:
        """With --audit the verdicts and where the report is; with -v or -rA every figure and the mutation
        matrix.
        """
        if self.report is not None:
            terminalreporter.write_sep("=", f"audit: {self.report.verdict}")
            terminalreporter.write_line(summary(self.report))
            terminalreporter.write_line("written: " + ", ".join(map(str, self.written)))
            terminalreporter.write_line(travel.summary(self.reports))
        elif config.getoption("verbose") > 0 or "A" in config.getoption("reportchars"):
            found = self.evidence()
            for title, text in (
                ("properties", table(found.measured) if found.measured else ""),
                ("mutants", matrix(found.rows) if found.rows else ""),
                ("regressions", travel.summary(self.reports)),
            ):
                if text:
                    terminalreporter.write_sep("=", title)
                    terminalreporter.write_line(text)

    def evidence(self) -> Evidence:
        """In the order of the tests and not of the workers."""
        found = Evidence(seconds=time.perf_counter() - self.began)
        for report in sorted(self.reports, key=lambda report: report.nodeid):
            _count(found, report)
            for name, value in report.user_properties if report.when == "call" else ():
                _keep(found, name, value)
        for broken in self.broken:
            found.failures.append(failure_of(broken.nodeid, broken.longreprtext))
            found.tests["errors"] = found.tests.get("errors", 0) + 1
        found.speed = self.speed
        found.failures = [
            f if f.replay else replace(f, replay=replay_command(self.config, f.nodeid))
            for f in found.failures
        ]
        return found


def _speed(config: pytest.Config) -> Speed | None:
    if (given := config.getoption("--speed")) is None:
        return None
    # Wanted with --speed alone.
    from properties.audit.speed import read

    return read(Path(given))


def _tracer() -> "Tracer":
    # Wanted with --audit alone.
    from properties.audit.tracing import Tracer

    return Tracer()


def _keep(found: Evidence, name: str, value: Any) -> None:
    if name == "measured":
        found.measured.append(Measured(*value))
    elif name == "row":
        cells = [Cell(**cell) for cell in json.loads(value)]
        found.rows.append(Row(cells[0].mutant, cells))
    else:
        loaded = json.loads(value) if isinstance(value, str) else [value]
        found.records.setdefault(name, []).extend(loaded if isinstance(loaded, list) else [loaded])


def _count(found: Evidence, report: pytest.TestReport) -> None:
    if report.outcome == "passed" and report.when != "call":
        return
    found.tests[report.outcome] = found.tests.get(report.outcome, 0) + 1
    claim, variant = named(report.nodeid)
    if report.outcome == "skipped":
        found.skipped[report.nodeid] = (
            report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        )
        return
    found.ran.add((claim, variant))
    if report.outcome == "passed":
        found.passed.add(report.nodeid)
    else:
        told = report.longrepr
        # A plain text is of a process that died; pytest's own text of it begins with the worker.
        crash = told if isinstance(told, str) else getattr(getattr(told, "reprcrash", None), "message", None)
        # One that crashed has left nothing else, so that its marks must tell.
        ours = not {"instruments", "mutation"}.isdisjoint(report.keywords)
        left = [name for name, _ in report.user_properties if not (ours and name == "crashed")]
        found.failures.append(failure_of(report.nodeid, report.longreprtext, crash, left=left))


def named(nodeid: str) -> tuple[str, str | None]:
    """The claim and the variant of a test: "…::test_identity_at_init[hra]" is ("identity_at_init", "hra").

    A fixture's replay makes the claim of its property; a test that takes properties makes theirs "on real
    weights", say.
    """
    test = nodeid.rpartition("::")[2]
    claim, _, parameters = test.removesuffix("]").partition("[")
    parts = parameters.split("-")
    variant = next((part for part in parts if part in ll.VARIANTS), None)
    own = claim.removeprefix("test_")
    taken = next((part for part in parts if part in PROPERTIES), None)
    return (own if taken is None else taken if claim == REPLAY else f"{taken}_{own}"), variant


def failure_of(nodeid: str, text: str, crash: str | None = None, *, left: Iterable[str] = ()) -> Failure:
    """What pytest tells of a test that did not pass, taken apart.

    crash: the last line of a traceback, where there is one. left: the names of the records that the test has
    left. The replay is empty where the test tells none.
    """
    claim, variant = named(nodeid)
    # A violation is told as it is; a crash with pytest's marks before each line of it.
    told = dict(re.findall(r"^(?:E +)?(recipe|written|replay)   (.*)$", text, re.MULTILINE))
    lines = (crash or text).removeprefix("Failed: ").splitlines()
    message = "\n".join(
        line for line in lines if line.strip() and line[:9] not in ("recipe   ", "written  ", "replay   ")
    )
    judges = claim in PROPERTIES or claim in PARTS or not JUDGES.isdisjoint(left)
    # What a replay tells of its fixture, by the file's name, is nothing that the library does.
    stale = REPLAY in nodeid and re.match(r".*\.json: ", message) is not None
    kind = "collection" if "::" not in nodeid else "property" if judges and not stale else "test"
    return Failure(nodeid, claim, variant, kind, message[:2000], told.get("recipe"), told.get("replay", ""))
