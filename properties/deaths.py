"""The report of a test whose process died: signal, stack, replay, and the case that it tried as a fixture."""

import signal
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import settings

from properties.judging import journal
from properties.judging.claim import load_claims, load_claims_of_any
from properties.judging.outcome import CRASHED, Outcome
from properties.judging.under_pytest import RECORD, Kept
from properties.regressions.record import kept, replay_command
from strategies.recipes import from_json, pasteable

# Of a dead process's stack, as many frames are told.
FRAMES = 4


class DiedError(Exception):
    """The process that tried `case` died of it."""

    case: Any = None


def report_of(
    config: pytest.Config,
    nodeid: str,
    kept_journal: Path,
    code: int | None,
    when: Literal["setup", "call", "teardown"],
    marks: Any,
) -> pytest.TestReport:
    """A failed report, with the outcome of the claim that was running where one was.

    kept_journal: of the dead process. code: as in subprocess; None where nobody knows.
    """
    path, _, test = nodeid.partition("::")
    how, name = how_it_ended(code)
    doing, stack = journal.read(kept_journal, nodeid)
    why = "\n".join([how, *map(str, stack[:FRAMES])])
    died = DiedError(how)
    died.case = None if doing.recipe is None else from_json(doing.recipe)
    recipe = None if died.case is None else pasteable(died.case)
    left = Kept("", replay_command(config, nodeid))
    if doing.claim:
        claim = {**load_claims(), **load_claims_of_any()}[doing.claim]
        left = kept(config, nodeid, claim, doing.method, died)
    lines = {"recipe": recipe, "fixture": left.written, "replay": left.replay}
    text = "\n".join([why, *(f"{name:<9}{line}" for name, line in lines.items() if line)])
    report = pytest.TestReport(nodeid, (path, None, test.replace("::", ".")), marks, "failed", text, when)
    crashed = {"nodeid": nodeid, "signal": name, "status": code, "recipe": recipe}
    report.user_properties.append(("crashed", crashed))
    if doing.claim:
        outcome = _outcome(doing, why, recipe, left.replay, nodeid, stack)
        report.user_properties.append((RECORD, outcome.to_json()))
    return report


def _outcome(
    doing: journal.Entry, why: str, recipe: str | None, replay: str, nodeid: str, stack: Any
) -> Outcome:
    """Of the claim that was running."""
    return Outcome(
        doing.claim,
        doing.method,
        doing.stage,
        CRASHED,
        why,
        budget=settings().max_examples,
        recipe=recipe,
        replay=replay,
        nodeid=nodeid,
        stack=stack,
    )


def how_it_ended(code: int | None) -> tuple[str, str | None]:
    """How a process ended, and the name of the signal. code: as in subprocess; None where nobody knows."""
    if code is None or code >= 0:
        return "ended without a report" + ("" if code is None else f", with exit status {code}"), None
    name = next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
    return f"killed by {name}", name
