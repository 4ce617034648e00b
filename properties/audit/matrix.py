"""The mutation matrix as text: mutants down, properties across, and what each property is good for."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from statistics import median
from typing import Any

from properties.audit.wording import counted
from properties.mutation.matrix import Row

MARKS = {"killed": "#", "survived": "·", "crashed": "!"}


def matrix(rows: Sequence[Row], *, whole: bool) -> str:
    """One line a mutant with a mark a property, then the first kills; of a whole matrix also the properties
    with what they kill and what they alone kill.
    """
    claims = list(dict.fromkeys(cell.claim for row in rows for cell in row.cells))
    width = max(len(row.mutant) for row in rows)
    lines = [f"{'':{width}}  {''.join(str(i // 10) for i in range(len(claims)))}"]
    lines.append(f"{'':{width}}  {''.join(str(i % 10) for i in range(len(claims)))}")
    lines += [f"{row.mutant:{width}}  {''.join(_mark(row, claim) for claim in claims)}" for row in rows]
    lines += [
        "",
        (
            "#: killed   ·: survived   !: crashed (no kill)   blank: not run, as it was not seen to run the"
            " changed code,"
        ),
    ]
    lines += [
        (
            "or is not about the first of the mutant's variants: there all are tried, on the others until the"
            " first kill"
            if whole
            else "or came after the first kill (--matrix tries all)"
        ),
        "",
    ]
    lines += [*_worth(rows, claims), ""] if whole else []
    lines += ["First kills, shrunk:", *(_first_kill(row) for row in rows if row.killers)]
    return "\n".join([*lines, "", *_totals(rows)])


def _mark(row: Row, claim: str) -> str:
    outcomes = {cell.outcome for cell in row.cells if cell.claim == claim}
    return next((mark for outcome, mark in MARKS.items() if outcome in outcomes), " ")


def _first_kill(row: Row) -> str:
    cell = next(cell for cell in row.cells if cell.outcome == "killed")
    return f"  {row.mutant} by {cell.claim} after {counted(cell.examples, 'example')}: {cell.detail}"


def _worth(rows: Sequence[Row], claims: Sequence[str]) -> list[str]:
    found = summary(rows)
    lines = []
    for i, claim in enumerate(claims):
        kills, alone = found["kills"].get(claim, []), found["alone"].get(claim, [])
        only = (
            f", alone {len(alone)}: {', '.join(alone[:3])}{', …' if len(alone) > 3 else ''}" if alone else ""
        )
        lines.append(f"{i:3} {claim}: kills {len(kills)}{only}")
    nothing = [claim for claim in claims if not found["alone"].get(claim)]
    return [*lines, "", f"Properties that alone kill nothing ({len(nothing)}): {', '.join(nothing)}"]


def _totals(rows: Sequence[Row]) -> list[str]:
    killed = sum(bool(row.killers) for row in rows)
    first = [_until_first_kill(row) for row in rows if row.killers]
    cells = sum(cell.outcome != "unreached" for row in rows for cell in row.cells)
    took = f" First kill of a mutant after a median of {median(first):.2f} s." if first else ""
    return [f"{killed} of {counted(len(rows), 'mutant')} killed, {counted(cells, 'cell')} run.{took}"]


def _until_first_kill(row: Row) -> float:
    """Seconds over all properties that were tried until one noticed."""
    before = takewhile(lambda cell: cell.outcome != "killed", row.cells)
    tried = len(list(before)) + 1
    return sum(cell.seconds for cell in row.cells[:tried])


def summary(rows: Iterable[Row]) -> dict[str, Any]:
    """What each property kills, and what it alone kills."""
    kills: defaultdict[str, list[str]] = defaultdict(list)
    alone: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        for name in row.killers:
            kills[name].append(row.mutant)
        if len(row.killers) == 1:
            alone[row.killers[0]].append(row.mutant)
    return {"kills": kills, "alone": alone}
