"""Runs properties under a mutant: which ones notice it, after how many examples, with which shrunk case."""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from hypothesis import Phase, settings

import lora_lite as ll
from properties.judging.assertions import Violation
from properties.judging.claim import Claim, load_claims
from properties.judging.evidence import asked
from properties.judging.outcome import Meter, NothingComparedError, measuring
from properties.mutation.mutant import Mutant
from properties.mutation.order import noticed, rank, stated
from properties.mutation.reach import budget, nothing_remembered, reach
from properties.mutation.trees import InjectionError
from strategies.recipes import pasteable, to_json

# What a mutant has to cause, in tolerances, in order to be seen for sure: the project's goal.
CLEAR = 10.0
# How the detail of a crash begins that is no fault of the mutant.
AS_BEFORE = "fails on correct code"


@dataclass(frozen=True)
class Cell:
    """One property under one mutant on one variant.

    outcome  "killed", "survived", "crashed" (here, or on correct code already), or "unreached": not run
    detail   of a kill, the case that shows it; of a crash, the exception
    signal   of a kill on a drawn case in the whole matrix, by dtype, the largest error as a share of its
             tolerance that was seen, at most 1 where the mutant hides; empty where nothing passed a
             tolerance: something else told
    recipe   of a kill that was shrunk, its case as JSON
    """

    claim: str
    mutant: str
    variant: str
    outcome: str
    examples: int = 0
    seconds: float = 0.0
    detail: str = ""
    signal: dict[str, float] = field(default_factory=dict)
    recipe: Any = None


@dataclass
class Row:
    """All properties under one mutant."""

    mutant: str
    cells: list[Cell] = field(default_factory=list)

    @property
    def killers(self) -> list[str]:
        """Names of the properties that notice."""
        return list(dict.fromkeys(cell.claim for cell in self.cells if cell.outcome == "killed"))

    @property
    def shrunk(self) -> Cell | None:
        """The first kill on a drawn case."""
        return next((cell for cell in self.cells if cell.recipe is not None), None)

    @property
    def variants(self) -> list[str]:
        """Those that it was tried on: of the mutant's the ones that the run judges."""
        return list(dict.fromkeys(cell.variant for cell in self.cells))

    @property
    def witnesses(self) -> list[str]:
        """On the first variant, where a whole matrix asks every claim, the one that notices alone, or two."""
        return Row(self.mutant, [c for c in self.cells if c.variant == self.variants[0]]).killers[:2]

    def contradicts(self, stated: Sequence[str], *, whole: bool) -> bool:
        """Whether none of these claims noticed; in a whole matrix, others than the one that is said to."""
        others = whole and len(stated) == 1 and self.witnesses != [*stated]
        return bool(stated) and (others or not {*stated} & {*self.killers})

    @property
    def survivors(self) -> list[str]:
        """The variants on which nothing noticed."""
        killed = {cell.variant for cell in self.cells if cell.outcome == "killed"}
        return [variant for variant in self.variants if variant not in killed]


def rows_of(cells: Iterable[Cell]) -> list[Row]:
    """A row a mutant."""
    rows: dict[str, Row] = {}
    for cell in cells:
        rows.setdefault(cell.mutant, Row(cell.mutant)).cells.append(cell)
    return [*rows.values()]


def run_cell(made: Claim, mutant: Mutant, variant: str, how: settings) -> Cell:
    """The property under the mutant. A crash is an exception that is no Violation: loud, and so no kill.

    Raises InjectionError where the mutant does not apply.
    """
    began, cell = time.perf_counter(), Cell(made.name, mutant.name, variant, "survived", how.max_examples)
    try:
        with mutant.injected(), measuring(Meter()) as meter:
            made.run(variant, how)
    except Violation as violation:
        case, told = violation.case, str(violation).splitlines()[0]
        cell = replace(cell, outcome="killed", examples=violation.examples or 1, signal=meter.worst)
        cell = replace(cell, detail=told if case is None else pasteable(case))
        if case is not None and Phase.shrink in how.phases:
            cell = replace(cell, recipe=to_json(case))
    except InjectionError:
        raise
    except NothingComparedError:
        pass  # so few examples tell nothing
    except Exception as error:
        cell = replace(cell, outcome="crashed", examples=0, detail=f"{type(error).__name__}: {error}")
    return replace(cell, seconds=time.perf_counter() - began)


def signal(
    made: Claim, mutant: Mutant, variant: str, found: dict[str, float], *, examples: int, full: int
) -> dict[str, float]:
    """By dtype, the largest error as a share of its tolerance that the mutant causes: at its easiest case.

    found: what its kill showed. Where that and `examples` cases show nothing CLEAR, it is looked for among
    `full`, and where they do not either, among ten times as many until there is one. Empty where nothing
    passes its tolerance.
    """
    worst = Meter(worst=dict(found))

    def largest() -> float:
        return max(worst.worst.values(), default=0.0)

    for tried, patient in ((examples, True), (full, True), (10 * full, False)):

        def unjudged(case: Any, patient: bool = patient) -> None:
            # The meter has noted the error before the assertion that raises; a crash has none to note.
            with suppress(Exception):
                made.check(case)
            if largest() >= CLEAR and not patient:
                raise Violation("seen clearly")

        with mutant.injected(), measuring(worst), suppress(Violation):
            replace(made, check=unjudged).run(variant, budget(tried, shrink=False))
        if not worst.worst or largest() >= CLEAR or (tried == full and largest() <= 1):
            break
    return worst.worst if largest() > 1 else {}


@cache
def applicable(variant: str) -> Sequence[Claim]:
    """Every claim about this variant or about the library that takes no seconds, the quickest first."""
    kind = ll.VARIANTS[variant]
    quick = (p for p in load_claims().values() if not p.slow and asked(p))
    own = [p for p in quick if p.standing(None if p.cases is None else kind).state is None]
    return sorted(own, key=lambda p: (p.share < 1, p.name))


def ranked(
    mutant: Mutant, variant: str, first: Sequence[str] = (), *, among: Sequence[str] | None = None
) -> list[Claim]:
    """As applicable, or those `among` them; in front those named first, in that order, and those that noticed
    its functions fail before.
    """
    claims = [p for p in applicable(variant) if among is None or p.name in among]
    place = {name: i for i, name in reversed([*enumerate(first)])}
    return sorted(claims, key=lambda p: (place.get(p.name, len(first)), rank(mutant.targets, p.name)))


@nothing_remembered()
def run_row(mutant: Mutant, *, examples: int, full: int, whole: bool) -> Row:
    """On each of the mutant's variants until the first kill; with `whole`, first every property on its first
    variant.

    The first kill on a drawn case is shrunk. Properties that do not run the changed code are left out; a
    variant on which nothing noticed within `examples` is tried again with `full`, and with every property.
    """
    row = Row(mutant.name)
    for variant in mutant.applies_to:
        first = variant == mutant.applies_to[0]
        if whole and first:
            for made in applicable(variant):
                cell = run_reached(made, mutant, variant, budget(examples, shrink=row.shrunk is None))
                found: dict[str, float] = {}
                if cell.outcome == "killed" and made.cases is not None:
                    found = signal(made, mutant, variant, cell.signal, examples=examples, full=full)
                row.cells.append(replace(cell, signal=found))
            continue
        # What is stated of the first variant has all examples before another may notice. Then patience with
        # the claims that noticed such a failure before, which run this code: all others take longer.
        own = stated().get(mutant.name, []) if first else []
        known = [*_likely(mutant, row), *noticed(mutant.targets)]
        for ask in ((examples, own), (full, own), (examples, known, True), (full, known), (examples,)):
            if _until_killed(row, mutant, variant, *ask):
                break
    for variant in row.survivors:
        _until_killed(row, mutant, variant, full, everything=True)
    return row


def run_reached(made: Claim, mutant: Mutant, variant: str, how: settings, *, anyway: bool = False) -> Cell:
    """run_cell, of a claim that runs the changed code: any other is unreached, unless it is asked anyway.

    One that fails on correct code already would kill every mutant, and is crashed.
    """
    if not anyway and not mutant.reached & reach(made, variant).code:
        return Cell(made.name, mutant.name, variant, "unreached")
    cell = run_cell(made, mutant, variant, how)
    if cell.outcome == "survived" or (fails := reach(made, variant).fails) is None:
        return cell
    return Cell(made.name, mutant.name, variant, "crashed", detail=f"{AS_BEFORE}: {fails}")


def _likely(mutant: Mutant, row: Row) -> list[str]:
    """The claims that are said to notice it, and those that noticed it on a variant before."""
    return [*stated().get(mutant.name, []), *row.killers]


def _until_killed(
    row: Row,
    mutant: Mutant,
    variant: str,
    examples: int,
    among: Sequence[str] | None = None,
    everything: bool = False,
) -> bool:
    known = _likely(mutant, row)
    for made in ranked(mutant, variant, known, among=among):
        how, anyway = budget(examples, shrink=row.shrunk is None), everything or made.name in known
        # One kill's error is not that of the easiest case, which nobody has looked for here.
        row.cells.append(replace(run_reached(made, mutant, variant, how, anyway=anyway), signal={}))
        if row.cells[-1].outcome == "killed":
            return True
    return False
