"""The pytest side of the audit: gathers what the tests report, on this process and on workers, and hands it
to the judge.
"""

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lora_lite as ll
from properties.audit import kept_matrix
from properties.audit.evidence import Evidence, Matrix, Speed
from properties.audit.first_look import LOOKED
from properties.audit.matrix import matrix
from properties.audit.provenance import narrowing
from properties.audit.report import BUGGY, Provenance, Report, SuiteFailure
from properties.audit.sight import MatrixSource
from properties.audit.terminal import could_add, summary, table, verdicts
from properties.judging.outcome import Outcome
from properties.judging.under_pytest import RECORD
from properties.mutation.matrix import Cell, Row
from properties.regressions import travel
from properties.regressions.record import replay_command
from properties.subjects.living import judged_methods
from strategies.options import BUILT_IN

if TYPE_CHECKING:
    from properties.audit.subjects import Field
    from properties.audit.tracing import Tracer

SENT = "lora_lite_coverage"


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
        self.speed, self.matrix = _speed(config), kept_matrix.of_run(config)
        # Of lora_lite's own code, which others do not run.
        own = "lora_lite" in (config.getoption("--subject") or ["lora_lite"])
        self.tracer = _tracer() if self.folder is not None and own else None
        if self.tracer is not None and (crashes := config.pluginmanager.getplugin("crashes")) is not None:
            crashes.carry(self._traced, self.tracer.add)
        self.report: Report | None = None
        self.field: Field | None = None
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
        if subjects := session.config.getoption("--subject"):
            self.written = self._beside(found)
            if "lora_lite" not in subjects:
                self._keep(found, provenance)
                return
        wanted = session.config.getoption("--variant") or list(ll.VARIANTS)
        self.report = judge(found, self.tracer, provenance, [name for name in ll.VARIANTS if name in wanted])
        self.written += write(self.report, Path(self.folder))
        self._keep(found, provenance)
        if session.config.getoption("--matrix"):
            self.written.append(kept_matrix.write(found.rows, Path(self.folder)))
        if self.report.verdict == BUGGY and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _keep(self, found: Evidence, provenance: Provenance) -> None:
        """All of it, for a merge with what other machines judge."""
        from properties.audit import records
        from properties.audit.provenance import shard_of

        assert self.folder is not None
        kept = records.Records([shard_of(self.config, provenance)], found)
        self.written.append(records.write(kept, Path(self.folder)))

    def _beside(self, found: Evidence) -> list[Path]:
        """The table of all libraries that were judged."""
        from properties.audit import subjects
        from properties.audit.methods import kept

        assert self.folder is not None
        self.field = subjects.field_of(
            found.outcomes,
            judged_methods(self.config),
            command=" ".join(["pytest", *map(str, self.config.invocation_params.args)]),
            seconds=found.seconds,
        )
        folder = Path(self.folder)
        return [*subjects.write(self.field, folder), *kept.write(self.field, folder)]

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> None:
        """With --audit, or where methods were chosen, the verdicts; with -v or -rA every figure and the
        mutation matrix.
        """
        if self.field is not None:
            from properties.audit import subjects

            terminalreporter.write_sep("=", "libraries")
            terminalreporter.write_line(subjects.summary(self.field))
            if self.report is None:
                terminalreporter.write_line("written: " + ", ".join(map(str, self.written)))
                return
        if self.report is not None:
            terminalreporter.write_sep("=", f"audit: {self.report.verdict}")
            terminalreporter.write_line(summary(self.report))
            terminalreporter.write_line("written: " + ", ".join(map(str, self.written)))
            terminalreporter.write_line(travel.summary(self.reports))
            return
        found = self.evidence()
        asked = config.getoption("--variant") or config.getoption("--variant-module")
        looked = config.stash[LOOKED]
        told = verdicts(found.outcomes, found.narrowed, looked=looked) if asked and found.outcomes else ""
        parts = {"a first look" if looked else "verdicts": told}
        judged = {outcome.method for outcome in found.outcomes}
        own = [name for name in ll.VARIANTS if name in judged and name not in BUILT_IN]
        parts["what could be added, most telling first"] = could_add(own)
        if config.getoption("verbose") > 0 or "A" in config.getoption("reportchars"):
            parts |= {
                "claims": table(found.outcomes) if found.outcomes else "",
                "mutants": matrix(found.rows, whole=config.getoption("--matrix")) if found.rows else "",
                "regressions": travel.summary(self.reports),
            }
        for title, text in parts.items():
            if text:
                terminalreporter.write_sep("=", title)
                terminalreporter.write_line(text)

    def evidence(self) -> Evidence:
        """In the order of the tests and not of the workers."""
        narrowed = ", ".join(narrowing(self.config))
        found = Evidence(seconds=time.perf_counter() - self.began, speed=self.speed, narrowed=narrowed)
        for report in sorted(self.reports, key=lambda report: report.nodeid):
            if report.outcome == "passed" and report.when != "call":
                continue
            found.tests[report.outcome] = found.tests.get(report.outcome, 0) + 1
            left = _kept(found, report)
            if report.outcome == "skipped":
                why = report.longrepr
                found.skipped[report.nodeid] = why[2] if isinstance(why, tuple) else report.longreprtext
            elif report.outcome == "failed" and not left:
                found.failures.append(self._of_the_suite(report.nodeid, message_of(report)))
        found.matrix = self.matrix
        if self.config.getoption("--matrix"):
            found.matrix = Matrix(found.rows, MatrixSource("", "", True))
        for broken in self.broken:
            found.failures.append(self._of_the_suite(broken.nodeid, broken.longreprtext))
            found.tests["errors"] = found.tests.get("errors", 0) + 1
        return found

    def _of_the_suite(self, nodeid: str, message: str) -> SuiteFailure:
        return SuiteFailure(nodeid, message[:2000], replay_command(self.config, nodeid))


def message_of(report: pytest.TestReport) -> str:
    """The last line of a traceback, where there is one, else what was raised."""
    crash = getattr(getattr(report.longrepr, "reprcrash", None), "message", None)
    return str(crash or report.longreprtext).removeprefix("Failed: ")


def _kept(found: Evidence, report: pytest.TestReport) -> bool:
    """Keep what a test left; whether that tells of its failure: a claim that does not hold, or a mutant that
    survives, which is something to add and no fault of the suite.
    """
    tells = False
    left: list[tuple[str, Any]] = report.user_properties
    for name, value in left:
        if name == RECORD:
            found.outcomes.append(outcome := Outcome.from_json(value))
            tells |= outcome.failed
        elif name == "row":
            cells = [Cell(**cell) for cell in json.loads(value)]
            found.rows.append(row := Row(cells[0].mutant, cells))
            tells |= bool(row.survivors)
        else:
            found.records.setdefault(name, []).append(value)
    return tells


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
