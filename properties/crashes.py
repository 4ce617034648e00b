"""A test that kills its process is a failed test, with signal, recipe and replay; the run goes on.

Without xdist the tests run in a forked child, whose calls of pytest's reporting hooks the parent makes. Where
the child dies, its test fails and a new child goes on with the next; what the dead one had set up is not torn
down. With xdist the report of a crashed worker is told alike.

What stays in this process, as the header then says: --pdb, --trace and --setup-show (they talk to the
terminal), live logs, a debugger or a tracer such as `coverage run`, --device cuda (it survives no fork; use
-n 1), macOS (its frameworks survive none) and Windows (it has none). `-p no:crashes` keeps all there. As with
xdist, what tests leave in memory for the end of the run is lost, but for what is `carry`-ed. Collection is
not guarded: it imports, and judges nothing.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import Any

import pytest

from properties.deaths import report_of
from properties.judging import journal

SENT = "lora_lite_journals"


def in_process(config: pytest.Config) -> str | None:
    """Why the tests cannot run in a child."""
    option, tools = config.getoption, getattr(sys, "monitoring", None)
    reasons = {
        "no fork that is safe on this system": not hasattr(os, "fork") or sys.platform == "darwin",
        "not the main thread": threading.current_thread() is not threading.main_thread(),
        "--pdb or --trace": option("usepdb") or option("trace"),
        "--setup-show": option("setupshow") or option("setuponly") or option("setupplan"),
        "live logs": config.getini("log_cli") or option("--log-cli-level") is not None,
        f"--device {option('--device')}": option("--device") != "cpu",
        # Tools 0 to 2: a debugger, coverage, a profiler.
        "it is traced": sys.gettrace() or (tools and any(map(tools.get_tool, range(3)))),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _messages(pipe: "Connection[Any, Any]") -> Iterator[tuple[str, dict[str, Any]]]:
    """What a child says until it dies. It waits for each to be told, so that what both print is in order."""
    with suppress(EOFError, OSError):
        while True:
            yield pipe.recv()
            pipe.send(None)


def _interrupted_once(number: int, frame: FrameType | None) -> None:
    """In a child, to which the terminal and the parent send the same Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt(frame and f"{frame.f_code.co_filename}:{frame.f_lineno}")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


class Crashes:
    """The plugin: in the process that the user started, in its child, and in the workers of xdist."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.seen: dict[str, tuple[Any, Any]] = {}  # of each test the phase that comes next, and the marks
        self.carried: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self.due = 0.0  # when a child is to hand over what is carried
        self.at = 0  # the item that the child is at
        self.parent: Connection[Any, Any] | None = None  # of a child
        self.given = getattr(config, "workerinput", None)
        self.alone = self.given is None and not config.pluginmanager.hasplugin("dsession")
        self.reason = in_process(config) if self.alone else None

    def pytest_configure(self) -> None:
        self.folder = (
            mkdtemp(prefix="lora-lite-journals-") if self.given is None else self.given.get(SENT, "")
        )
        # A worker on another machine has no such folder.
        if self.given is not None and Path(self.folder or "nowhere").is_dir():
            self._keep_journal(self.given["workerid"])

    def carry(self, dump: Callable[[], Any], load: Callable[[Any], None]) -> None:
        """What tests gather in memory: the parent loads what a child dumps, each time what is new."""
        self.carried.append((dump, load))

    def pytest_report_header(self) -> str | None:
        told = "crashes: one would end the run, since the tests run in this process"
        return self.reason and f"{told} ({self.reason})"

    def pytest_unconfigure(self) -> None:
        journal.close()
        if self.given is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        option = self.config.option
        broken = session.testsfailed and not option.continue_on_collection_errors
        if not self.alone or self.reason or option.collectonly or broken:
            return None
        if (factory := getattr(self.config, "_tmp_path_factory", None)) is not None:
            # Made by the process that removes old ones at its end.
            factory.getbasetemp()
        while self.at < len(session.items) and not session.shouldfail and not session.shouldstop:
            self._follow(session)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        return True

    def _follow(self, session: pytest.Session) -> None:
        """Report what a new child does, until it ends or dies. Raises what ended it."""
        pipe, there = (context := get_context("fork")).Pipe()
        child = context.Process(target=self._serve, args=(session, there, pipe, sys.stdin))
        # Left to itself, multiprocessing closes a child's stdin, which breakpoint() reads.
        stdin, sys.stdin = sys.stdin, None
        with warnings.catch_warnings():
            # Python 3.12 warns of every thread, and BLAS has some: none holds a lock between two tests.
            warnings.simplefilter("ignore", DeprecationWarning)
            child.start()
        sys.stdin, end = stdin, {}
        there.close()
        interrupts: list[BaseException] = []

        def interrupt(*_: object) -> None:
            """The child ends as pytest does, and says so; the second time it has no say."""
            interrupts.append(KeyboardInterrupt())
            os.kill(child.pid or 0, signal.SIGKILL if interrupts[1:] else signal.SIGINT)

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            for name, said in _messages(pipe):
                if name == "ended":
                    end = said
                else:
                    self._report(name, said)
        finally:
            signal.signal(signal.SIGINT, before)
            pipe.close()
            child.join()
        if end:
            self.at = len(session.items)
            shouldfail, shouldstop = end["stop"]
            session.shouldfail = session.shouldfail or shouldfail
            session.shouldstop = session.shouldstop or shouldstop
        elif not interrupts:
            self._died(session, child.exitcode)
        for error in [*end.get("errors", ()), *interrupts]:
            raise error

    def _report(self, name: str, said: dict[str, Any]) -> None:
        hooks = self.config.hook
        if name == "carried":
            for (_, load), dumped in zip(self.carried, said["dumped"], strict=True):
                load(dumped)
            return
        if name == "pytest_runtest_logreport":
            said = {"report": hooks.pytest_report_from_serializable(config=self.config, **said)}
        if name == "pytest_warning_recorded":
            hooks.pytest_warning_recorded.call_historic(kwargs=said)
        else:
            getattr(hooks, name)(**said)
        self.at += name == "pytest_runtest_logfinish"
        _flush()

    def _died(self, session: pytest.Session, code: int | None) -> None:
        # After the last test, it died of what that had left behind: no claim's fault.
        over = self.at >= len(session.items)
        item = session.items[-1 if over else self.at]
        self.seen.setdefault(item.nodeid, ("setup", dict.fromkeys(item.keywords, 1)))
        report = self._crash(item.nodeid, "none" if over else "child", code)
        if (capture := self.config.pluginmanager.getplugin("capturemanager")) is not None:
            # Left there, the next test would be said to have printed it.
            for stream, text in zip(("stdout", "stderr"), capture.read_global_capture(), strict=True):
                report.sections += [(f"Captured {stream} {report.when}", text)] if text else []
        item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        self.at += 1

    def _serve(self, session: pytest.Session, pipe: Any, other: Any, stdin: Any) -> None:
        """The child: pytest's loop over what is left, and the end of what an interruption left set up."""
        other.close()
        # A grandchild that outlives this process must not keep the parent waiting for it.
        os.register_at_fork(after_in_child=pipe.close)
        self.parent, sys.stdin = pipe, stdin
        signal.signal(signal.SIGINT, _interrupted_once)
        self._keep_journal("child")
        for dump, _ in self.carried:
            # The parent's own, which it has.
            dump()
        plugin = self.config.pluginmanager.getplugin
        if (reporter := plugin("terminalreporter")) is not None:
            # The parent's reporter writes. This one stays, since other plugins ask it for what it knows.
            reporter._tw._file = Path(os.devnull).open("w")  # noqa: SIM115
        errors: list[BaseException] = []
        for step in (self._run_left, plugin("runner").pytest_sessionfinish):
            try:
                step(session)
            except (KeyboardInterrupt, pytest.exit.Exception) as told:
                errors.append(told)
            except BaseException:
                errors.append(RuntimeError(traceback.format_exc()))
        stop = session.shouldfail, session.shouldstop
        self._hand_over()
        self._tell("ended", errors=errors, stop=stop)

    def _run_left(self, session: pytest.Session) -> None:
        left = session.items[self.at :]
        for item, after in zip(left, [*left[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if time.monotonic() > self.due:
                self._hand_over()
            if session.shouldfail or session.shouldstop:
                return

    def _hand_over(self) -> None:
        """For a twentieth of the time: a child that dies hands nothing over any more."""
        began = time.monotonic()
        self._tell("carried", dumped=[dump() for dump, _ in self.carried])
        self.due = time.monotonic() + 20 * (time.monotonic() - began)

    def _keep_journal(self, name: str) -> None:
        journal.keep(Path(self.folder, name))

    def _tell(self, name: str, **said: Any) -> None:
        if self.parent is not None:
            _flush()
            # Half a message would be taken for another.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            self.parent.send((name, said))
            self.parent.recv()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        journal.begin(nodeid)
        self._tell("pytest_runtest_logstart", nodeid=nodeid, location=location)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        after = "call" if report.when == "setup" and report.passed else "teardown"
        self.seen[report.nodeid] = (after, report.keywords)
        to_data = self.config.hook.pytest_report_to_serializable
        self._tell(
            "pytest_runtest_logreport", data=self.parent and to_data(config=self.config, report=report)
        )

    def pytest_runtest_logfinish(self, nodeid: str, location: Any) -> None:
        self._tell("pytest_runtest_logfinish", nodeid=nodeid, location=location)

    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str, location: Any) -> None:
        seen = warning_message
        # Its source may be anything, and travels nowhere.
        plain = warnings.WarningMessage(str(seen.message), seen.category, seen.filename, seen.lineno)
        self._tell(
            "pytest_warning_recorded", warning_message=plain, when=when, nodeid=nodeid, location=location
        )

    def _crash(self, nodeid: str, journal_of: str, code: int | None) -> pytest.TestReport:
        when, marks = self.seen.get(nodeid, ("setup", {}))
        return report_of(self.config, nodeid, Path(self.folder, journal_of), code, when, marks)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[SENT] = self.folder

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any) -> None:
        """The report that xdist made becomes ours, and counts for -x, which xdist forgets.

        xdist gives up after four crashes a worker; one of a test is no reason to.
        """
        gateway, code = report.node.gateway, None
        with suppress(AttributeError, subprocess.TimeoutExpired):
            code = gateway._io.popen.wait(10)
        vars(report).update(vars(self._crash(crashitem, gateway.id, code)))
        session = self.config.pluginmanager.getplugin("dsession")
        session._handlefailures(report)
        if self.config.option.maxworkerrestart is None and session._max_worker_restart is not None:
            session._max_worker_restart += 1
