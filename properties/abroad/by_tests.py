"""What a library's own tests notice of the same mutants: pytest runs them where the mutant is."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from properties.mutation.command import Judge
from properties.mutation.mutant import Mutant
from properties.mutation.score import Outcome
from properties.mutation.survey import survey

NOTHING = Mutant("no mutant", "", "", (), ())


def collected(arguments: Sequence[str], then: Callable[[Judge], object]) -> None:
    """`arguments` are pytest's; then(what the tests that pass on correct code say of a mutant)."""
    pytest.main([*arguments, "-q", "-p", "no:cacheprovider", "-W", "default"], plugins=[_Asked(then)])


class _Asked:
    """Gives what pytest has collected to `then`, in place of running it."""

    report: Any = None

    def __init__(self, then: Callable[[Judge], object]) -> None:
        self.then = then

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        # Each test would print its dot, once for each mutant.
        session.config.pluginmanager.unregister(name="terminalreporter")
        # In a process of their own: threads that a test starts would hang in those that fork later.
        tests = session.items
        (failing,) = survey([NOTHING], lambda _: [i for i, t in enumerate(tests) if self.failing([t])])
        sound = [test for i, test in enumerate(tests) if i not in failing]
        print(f"{len(sound)} of {len(tests)} of its own tests pass, and are asked", flush=True)
        self.then(partial(self.judged, items=sound))
        return True

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and self.report is None:
            self.report = report

    def failing(self, items: Sequence[pytest.Item]) -> Any:
        """The report of the first that fails; None where all pass."""
        self.report = None
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.report is not None:
                break
        return self.report

    def judged(self, mutant: Mutant, *, items: Sequence[pytest.Item]) -> Outcome:
        """Killed by the first test that fails."""
        with mutant.injected():
            report = self.failing(items)
        if report is None:
            return Outcome(mutant.name, "survived")
        return Outcome(mutant.name, "killed", report.nodeid, "", report.longreprtext[-200:])
