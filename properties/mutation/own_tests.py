"""What a library's own tests notice of the same mutants: pytest runs them where the mutant is."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from properties.mutation.mutant import Mutant
from properties.mutation.score import Outcome
from properties.mutation.survey import survey

NOTHING = Mutant("no mutant", "", "", (), ())
Items = Sequence[pytest.Item]


class _Collected:
    """Gives what pytest has collected to `then`, in place of running it."""

    def __init__(self, then: Callable[[Items], object]) -> None:
        self.then = then

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        # Each test would print its dot, once for each mutant.
        session.config.pluginmanager.unregister(name="terminalreporter")
        # In a process of their own: threads that a test starts would hang in those that fork later.
        (failing,) = survey([NOTHING], lambda _: [i for i, t in enumerate(session.items) if _failing([t])])
        sound = [item for i, item in enumerate(session.items) if i not in failing]
        print(f"{len(sound)} of {len(session.items)} of its own tests pass, and are asked", flush=True)
        self.then(sound)
        return True


class _First:
    """The first report of a failure."""

    report: Any = None

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and self.report is None:
            self.report = report


def collected(arguments: Sequence[str], then: Callable[[Items], object]) -> None:
    """`arguments` are pytest's; then(the tests that pass on correct code)."""
    pytest.main([*arguments, "-q", "-p", "no:cacheprovider", "-W", "default"], plugins=[_Collected(then)])


def judged(mutant: Mutant, *, items: Items) -> Outcome:
    """Killed by the first test that fails."""
    with mutant.injected():
        report = _failing(items)
    if report is None:
        return Outcome(mutant.name, "survived")
    return Outcome(mutant.name, "killed", report.nodeid, "", report.longreprtext[-200:])


def _failing(items: Items) -> Any:
    """The report of the first that fails; None where all pass."""
    first = _First()
    for i, item in enumerate(items):
        plugins = item.config.pluginmanager
        plugins.register(first)
        following = items[i + 1] if i + 1 < len(items) else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        plugins.unregister(first)
        if first.report is not None:
            break
    return first.report
