"""python -m properties.audit.places RUNS: how often localise names the function and the line of a fault whose
place is known, over the catalogue; writes the figures and what later runs remember, beside this file.

RUNS is a file of what each mutant made fail, one JSON object a line. What it lacks is run first, in this
process and some seconds each, and added: a run that was cut off goes on.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import torch
from hypothesis import settings

import lora_lite as ll
from properties.audit.places.localise import (
    WEIGHTS,
    Line,
    Memory,
    Place,
    Ran,
    Steps,
    likeliest_lines,
    likeness,
    localise,
    ranked,
)
from properties.audit.places.remember import FIGURES, MEMORY, remembered
from properties.audit.places.trials import Trial, on_correct_code, run, steps_of
from properties.audit.provenance import fingerprint
from properties.audit.tracing import module_of, statements
from properties.judging.profiles import register_profiles
from properties.mutation import load_catalogue


def write(trial: Trial, table: dict[frozenset[Line], int]) -> Iterator[str]:
    """A trial as lines of JSON, its sets of lines by number: most recur. New ones enter the table."""
    tests = []
    for failed, side in ((True, trial.failing), (False, trial.passing)):
        for test in side:
            if test.lines not in table:
                table[test.lines] = len(table)
                yield json.dumps({"number": table[test.lines], "lines": sorted(test.lines)})
            tests.append([test.claim, test.variant, failed, table[test.lines]])
    place = {"functions": sorted(trial.functions), "lines": sorted(trial.lines)}
    yield json.dumps({"mutant": trial.mutant, "variant": trial.variant, **place, "tests": tests})


def read(text: str) -> tuple[list[Trial], dict[frozenset[Line], int]]:
    """What `write` wrote."""
    sets: dict[int, frozenset[Line]] = {}
    found = []
    for row in map(json.loads, text.splitlines()):
        if "number" in row:
            sets[row["number"]] = _lines(row["lines"])
            continue
        tests = [(Ran(claim, variant, sets[n]), failed) for claim, variant, failed, n in row["tests"]]
        sides = [tuple(ran for ran, failed in tests if failed == side) for side in (True, False)]
        found.append(
            Trial(row["mutant"], row["variant"], frozenset(row["functions"]), _lines(row["lines"]), *sides)
        )
    return found, {lines: number for number, lines in sets.items()}


def _lines(pairs: Sequence[Sequence[Any]]) -> frozenset[Line]:
    return frozenset((file, line) for file, line in pairs)


HOW = (
    "Over {} of the catalogue's silent failures, whose places are known; {} more that the few cases tried"
    " here do not show. Each was run under every claim about its first variant, on 3 cases a claim (10 where"
    " those show nothing), and under 3 of the failing claims on the other variants. It is in none of its own"
    " memories; the second column says what else is left out of them. Function and file: the share whose true"
    " one is ranked first, or among the first so many; line: the same over the statements of all functions."
    " The exponents were fitted as a conditional logit in five folds that share no function, and rounded."
    " Aimed at: function first in 75 %, in the first three in 95 %."
)
# What is left out of what earlier runs remember: beside the fault itself others may sit on its lines.
OUT: dict[str, Callable[[Trial, Trial], bool]] = {
    # As of a fault that is like none before it; the others say what knowing more of them is worth.
    "faults on its lines": lambda one, other: one is other or bool(one.lines & other.lines),
    "the fault itself": lambda one, other: one is other,
    "faults in its function": lambda one, other: bool(one.functions & other.functions),
    "all faults": lambda one, other: True,
}
# Evidence, what is left out, which figures count, and whether the first variant is judged alone.
ROWS = (
    *(("all", out, tuple(WEIGHTS), "all") for out in OUT),
    ("all, one variant judged", "the fault itself", tuple(WEIGHTS), "alone"),
    ("claims and variants, no earlier runs", "all faults", ("claims", "variants"), "all"),
    ("Ochiai over claims", "all faults", ("claims",), "all"),
    ("known faults alone, as SIMFL", "the fault itself", ("memory",), "all"),
)


def measured(found: Sequence[Trial], always: Steps, ever: Steps) -> dict[str, Any]:
    """The table that the audit shows, as JSON."""
    seen = [trial for trial in found if trial.failing and trial.lines]
    places = [_places(trial, Memory((), always, ever), alone=False) for trial in seen]
    alone = [_places(trial, Memory((), always, ever), alone=True) for trial in seen]
    rows = []
    for evidence, left_out, figures, of in ROWS:
        ranks = []
        for trial, without in zip(seen, alone if of == "alone" else places, strict=True):
            known = _likeness(trial, [other for other in seen if not OUT[left_out](trial, other)])
            ranks.append(_ranks(trial, _with_memory(without, known, figures)))
        rows.append({"evidence": evidence, "left_out": left_out, **_shares(ranks)})
    unseen = sorted(trial.mutant for trial in found if trial not in seen)
    how = HOW.format(len(seen), len(unseen))
    return {"how": how, "source": fingerprint(), "unseen": unseen, "rows": rows}


def _places(trial: Trial, memory: Memory, *, alone: bool) -> list[Place]:
    """Before any fault is known; alone: as if the first variant were the only one that is judged."""
    red, green = (
        [test for test in side if not alone or test.variant in (trial.variant, None)]
        for side in (trial.failing, trial.passing)
    )
    known, module = statements(), module_of(trial.variant)
    return localise(red, green, known, memory, variant=trial.variant, module=module)


def _likeness(trial: Trial, others: Sequence[Trial]) -> dict[str, float]:
    own = (trial.variant, None)
    red, green = ({t.claim for t in side if t.variant in own} for side in (trial.failing, trial.passing))
    return likeness(red, [fault for other in others for fault in other.known], red | green)


def _with_memory(places: Sequence[Place], known: Mapping[str, float], figures: Sequence[str]) -> list[Place]:
    """The same places, once faults are known, by some of the figures."""
    told = [replace(p, why=p.why | {"memory": known.get(p.function, 0.0)}) for p in places]
    return ranked(told, {name: WEIGHTS[name] for name in figures})


def _ranks(trial: Trial, places: Sequence[Place]) -> tuple[float, float, float]:
    """Of the true function, its file and its line, each counted from 1; infinite where it is not ranked."""
    functions = [place.function for place in places]
    files = list(dict.fromkeys(place.file for place in places))
    true = {function.partition(" ")[0] for function in trial.functions}
    return (
        _first(functions, trial.functions),
        _first(files, true),
        _first(likeliest_lines(places), trial.lines),
    )


def _first(ranked: Sequence[Any], true: Set[Any]) -> float:
    return next((rank for rank, item in enumerate(ranked, 1) if item in true), inf)


def _shares(ranks: Sequence[tuple[float, float, float]]) -> dict[str, float]:
    wanted = {"function_first": (0, 1), "function_in_three": (0, 3), "function_in_five": (0, 5)}
    wanted |= {"file_first": (1, 1), "line_first": (2, 1), "line_in_five": (2, 5), "line_in_ten": (2, 10)}
    return {
        name: round(sum(rank[which] <= best for rank in ranks) / len(ranks), 3)
        for name, (which, best) in wanted.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what RUNS lacks, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m properties.audit.places", description=__doc__)
    parser.add_argument("runs", type=Path, metavar="RUNS")
    path = parser.parse_args(arguments).runs
    register_profiles()
    settings.load_profile("ci")
    warnings.simplefilter("ignore")  # of engines that a claim tries; pytest's own list makes them errors
    torch.set_num_threads(1)
    correct = on_correct_code(ll.VARIANTS)
    always, ever = steps_of(correct)
    found, table = read(path.read_text("utf-8") if path.is_file() else "")
    done = {trial.mutant for trial in found}
    wanted = [m for m in load_catalogue().values() if m.equivalent is None]
    with path.open("a", encoding="utf-8") as file:
        for mutant in wanted:
            if mutant.name not in done:
                found.append(run(mutant, correct))
                file.writelines(f"{line}\n" for line in write(found[-1], table))
    known = {mutant.name for mutant in wanted}
    found = sorted((trial for trial in found if trial.mutant in known), key=lambda trial: trial.mutant)
    FIGURES.write_text(json.dumps(measured(found, always, ever), indent=1) + "\n", encoding="utf-8")
    MEMORY.write_text(
        json.dumps(remembered([k for trial in found for k in trial.known], always, ever)) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
