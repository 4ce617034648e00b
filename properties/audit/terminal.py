"""What the terminal shows: verdicts, claims by methods, and the end of an audit."""

import textwrap
from collections.abc import Sequence

import lora_lite as ll
from properties.audit import first_look, missing
from properties.audit.report import BUGGY, CORRECT, Report
from properties.audit.settle import settled
from properties.audit.verdict import verdict_of
from properties.audit.wording import counted
from properties.judging.outcome import HELD, NOT_JUDGED, Outcome

WIDTH = 100
# In place of a verdict.
SO_FAR = "so far"


def table(outcomes: Sequence[Outcome]) -> str:
    """Claims down and methods across, each cell with its examples and its worst error as a share of the
    bound.
    """
    found = [outcome for outcome in outcomes if outcome.method is not None and not outcome.replayed]
    methods = list(dict.fromkeys(outcome.method or "" for outcome in found))
    cells = {(o.claim, o.method): _cell(o) for o in found}
    rows = [["claim", *methods, "examples/s"]]
    for name in dict.fromkeys(o.claim for o in found):
        cells_of = [cells.get((name, method), "") for method in methods]
        rows.append([name.replace("_", " "), *cells_of, _rate([o for o in found if o.claim == name])])
    total = sum(o.examples for o in found)
    legend = (
        "A cell: examples run · worst error as a share of its bound (=: equality claimed)."
        f" {counted(total, 'example')}."
    )
    return "\n".join([*_aligned(rows), "", legend])


def verdicts(outcomes: Sequence[Outcome], narrowed: str, *, looked: bool = False) -> str:
    """A line a method that any outcome is about, without what an audit measures beside. looked: after a first
    look, where only what failed has a verdict.
    """
    methods = [name for name in ll.VARIANTS if any(outcome.method == name for outcome in outcomes)]
    rows = []
    for name in methods:
        variant = ll.VARIANTS[name]
        missing = [] if variant.reference is not None else ["no reference"]
        found = settled(outcomes, name, narrowed)
        verdict, why = verdict_of(found, missing)
        if looked and verdict != BUGGY:
            verdict, why = SO_FAR, first_look.told([o for o in outcomes if o.method == name], found)
        rows.append((name, verdict, why))
    return "\n".join(_lines(rows))


def could_add(names: Sequence[str]) -> str:
    """What the authors of these variants could add, most telling first: a line each."""
    rows = [f"{name}: {one.what}: {one.remedy}" for name in names for one in missing.of(ll.VARIANTS[name])]
    return "\n".join(rows)


def summary(report: Report) -> str:
    """A line a method with its verdict and reason, where to look, and what is in doubt beside."""
    rows = [(block.variant, block.verdict, block.reason) for block in report.blocks]
    rows.append(("the library", report.library.verdict, report.library.reason))
    told = _lines(rows)
    for fix in report.must_fix:
        first = fix.failures[0]
        place = f": look at {fix.suspects[0].place}" if fix.suspects else ""
        told.append(f"{fix.method or 'the library'}: {first.claim.replace('_', ' ')}{place}")
        told.append(f"    {first.replay}")
    if report.left_out:
        told.append(f"Not judged: {', '.join(report.left_out)} (left out by this run).")
    if report.suite:
        told.append(f"{counted(len(report.suite), 'test')} of the suite itself did not pass.")
    if report.mutation.why:
        told.append(f"Not every silent failure was injected: {report.mutation.why}.")
    return "\n".join([*told, f"To fix: {len(report.must_fix) or 'nothing'}."])


def _lines(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Name, verdict and reason, the reason wrapped beside the two."""
    wide = max((len(name) for name, _, _ in rows), default=0)
    lines: list[str] = []
    for name, verdict, reason in rows:
        start = f"{name:{wide}}  {verdict:{max(len(BUGGY), len(CORRECT))}}  "
        lines += textwrap.wrap(reason, WIDTH, initial_indent=start, subsequent_indent=" " * len(start)) or [
            start
        ]
    return lines


def _cell(outcome: Outcome) -> str:
    """ "60 · 0.31", or "60 · =" where equality was claimed and found."""
    if outcome.state != HELD:
        return "–" if outcome.state == NOT_JUDGED else outcome.state
    share = f"{max(outcome.worst.values()):.2f}" if outcome.worst else "="
    return f"{outcome.examples} · {share}"


def _rate(outcomes: Sequence[Outcome]) -> str:
    held = [outcome for outcome in outcomes if outcome.state == HELD]
    seconds = sum(outcome.seconds for outcome in held)
    return f"{sum(outcome.examples for outcome in held) / seconds:.0f}" if seconds else ""


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
