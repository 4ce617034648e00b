"""Shrunk kills of mutants as fixtures: written, green without the mutant, red with it; how small they are and
how fast.
"""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from properties.judging.assertions import Violation
from properties.mutation.matrix import Cell
from properties.mutation.mutant import Mutant
from properties.regressions.fixture import FixtureError, read
from properties.regressions.record import record
from properties.regressions.replay import replay
from strategies.recipes import from_json, pasteable

SMALL = (4, 4, 2)


@dataclass(frozen=True, eq=False)
class Travelled:
    """A mutant's fixture: largest (d_in, d_out, r) of its case, None for one without layers; seconds until
    red.
    """

    mutant: str
    claim: str
    size: Sequence[int] | None
    seconds: float


def travelled(mutant: Mutant, cell: Cell, folder: Path) -> Travelled:
    """Write the kill down and replay it.

    Raises Violation where the replay is red without the mutant, and FixtureError where it is green with it.
    """
    case = from_json(cell.recipe)
    found = {"test": cell.claim, "profile": "mutation", "examples": cell.examples, "mutant": mutant.name}
    fixture, path = record(
        cell.claim, cell.variant, case, Violation(mutant.breaks), folder=folder, found=found
    )
    replay(fixture := read(path), path)
    with mutant.injected():
        began = time.perf_counter()
        try:
            replay(fixture, path)
        except Violation:
            return Travelled(mutant.name, cell.claim, size(case), time.perf_counter() - began)
    raise FixtureError(
        f"{path}: replay holds with {mutant.name} inside, under which it was found.\nrecipe  "
        f" {pasteable(case)}"
    )


def size(case: Any) -> tuple[int, int, int] | None:
    """The largest d_in, d_out and rank; a variant without a rank counts as rank 1."""
    if hasattr(case, "linear"):
        widths = [(case.linear.d_in, case.linear.d_out)]
    elif hasattr(getattr(case, "model", None), "widths"):
        widths = case.model.widths()
    else:
        return None
    return (
        max(w[0] for w in widths),
        max(w[1] for w in widths),
        dict(getattr(case, "options", ())).get("r", 1),
    )


def summary(reports: Iterable[pytest.TestReport]) -> str:
    """What the mutation tests among these reports made: how many mutants left a fixture, how small, how fast;
    "" for none.
    """
    made = []
    mutants = 0
    for report in reports:
        # The report of the teardown repeats what the call's holds.
        kept = dict(report.user_properties) if report.when == "call" else {}
        mutants += "row" in kept
        if "fixture" in kept:
            made.append(Travelled(**json.loads(str(kept["fixture"]))))
    return counts_of(made, mutants) if made else ""


def counts_of(fixtures: Sequence[Travelled], mutants: int) -> str:
    """As text; which ones are not small, by name."""
    sizes = {f: f.size for f in fixtures if f.size is not None}
    large = {f: size for f, size in sizes.items() if any(a > b for a, b in zip(size, SMALL, strict=True))}
    milliseconds = [1000 * f.seconds for f in fixtures]
    middle = (
        ", ".join(f"{median(size[i] for size in sizes.values()):g}" for i in range(3)) if sizes else "none"
    )
    return "\n".join(
        [
            f"{len(fixtures)} of {mutants} mutants left a fixture: green without the mutant, red with it.",
            "The others were noticed alone or first by a claim that draws nothing, which is its own replay.",
            (
                f"Replay until red: median {median(milliseconds):.0f} ms, longest {max(milliseconds):.0f} ms,"
                f" {sum(ms < 50 for ms in milliseconds)} in less than 50 ms."
            ),
            (
                f"Shrunk size (d_in, d_out, r) of the {len(sizes)} cases that have layers: median ({middle}),"
                f" {len(sizes) - len(large)} within {SMALL}{'; larger:' if large else '.'}"
            ),
            *(f"  {f.mutant}: {tuple(size)} by {f.claim}" for f, size in large.items()),
        ]
    )
