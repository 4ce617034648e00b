"""What each claim is good for, and what nothing looks at."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import takewhile
from math import inf
from typing import Any

from properties.audit.evidence import Evidence
from properties.audit.matrix import summary
from properties.audit.sight import Gaps, MutantRow, Mutation, ProbeClaim, Score, Worth
from properties.audit.tracing import Tracer, function_of, functions
from properties.audit.wording import counted
from properties.judging.claim import Claim, load_claims
from properties.judging.outcome import HELD, NOT_JUDGED, Outcome
from properties.mutation import load_catalogue
from properties.mutation.matrix import CLEAR, Cell, Row
from properties.mutation.score import Kind, State, score, stays
from properties.mutation.score import Outcome as Became
from properties.probe.measurements import MEASUREMENTS

# The goals, in tolerances of correct code (of a mutant at its easiest case: CLEAR), and in lines and branches
# that run.
NOISE, COVERAGE = 0.5, 0.98
# So many cases make noise known; fewer are said to be few.
CASES = 10_000


def worths(outcomes: Sequence[Outcome], rows: Sequence[Row]) -> list[Worth]:
    """One entry a claim that ran, in this run or under a mutant of the whole matrix, which `rows` are.

    Noise is that of correct code: not of a method of which anything fails.
    """
    drawn = [outcome for outcome in outcomes if not outcome.replayed and outcome.state != NOT_JUDGED]
    buggy = {outcome.method for outcome in drawn if outcome.failed} - {None}
    found = summary(rows)
    tried = Counter(
        claim for row in rows for claim in {cell.claim for cell in row.cells if cell.outcome != "unreached"}
    )
    return [
        _worth(claim, own, buggy, found, rows, tried[name])
        for name, claim in load_claims().items()
        if (own := [outcome for outcome in drawn if outcome.claim == name]) or tried[name]
    ]


def _worth(
    claim: Claim,
    outcomes: Sequence[Outcome],
    buggy: Collection[str | None],
    found: Mapping[str, Any],
    rows: Sequence[Row],
    tried: int,
) -> Worth:
    name = claim.name
    correct = [outcome for outcome in outcomes if outcome.method not in buggy]
    kills, alone = found["kills"].get(name, []), found["alone"].get(name, [])
    cells = [
        cell
        for row in rows
        for cell in row.cells
        if cell.claim == name and cell.outcome == "killed" and cell.signal
    ]
    noise = _largest(outcome.worst for outcome in correct if outcome.state == HELD)
    faintest = min(cells, key=lambda cell: max(cell.signal.values()), default=None)
    fails = any(outcome.failed for outcome in outcomes)
    return Worth(
        claim=name,
        text=" ".join((claim.check.__doc__ or "").split()),
        tried=tried,
        kills=kills,
        alone=alone,
        noise=noise,
        signal=_smallest([_shown(cell) for cell in cells]),
        faintest=faintest.mutant if faintest else None,
        tolerance="fails" if fails else _tolerance(noise, faintest, bool(correct), tried),
        dtypes={dtype: _in_dtype(dtype, noise, cells) for dtype in sorted({*noise, *_dtypes(cells)})},
        hidden={dtype: hidden for dtype in _dtypes(cells) if (hidden := _hidden(dtype, cells))},
        examples=sum(outcome.examples for outcome in correct),
        seconds=round(sum(outcome.seconds for outcome in correct), 3),
        earns=_earns(name, kills, alone, tried),
    )


def _dtypes(cells: Iterable[Cell]) -> list[str]:
    return sorted({dtype for cell in cells for dtype in cell.signal})


def _largest(shares: Iterable[Mapping[str, float]]) -> dict[str, float]:
    best: dict[str, float] = {}
    for share in shares:
        for dtype, value in share.items():
            best[dtype] = max(best.get(dtype, 0.0), value)
    return best


def _smallest(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    dtypes = dict.fromkeys(dtype for share in shares for dtype in share)
    return {dtype: min(share[dtype] for share in shares if dtype in share) for dtype in dtypes}


def _tolerance(noise: Mapping[str, float], faintest: Cell | None, ran: bool, tried: int) -> str:
    """From both sides: correct code may not come near to the tolerance, and a mutant must leave it far
    behind.
    """
    if max(noise.values(), default=0.0) > NOISE:
        return "too tight"
    if not ran:
        return "not measured"
    if faintest is not None:
        return "too loose" if max(faintest.signal.values()) < CLEAR else "sound" if noise else "not measured"
    if not any(noise.values()):
        return "exact"
    return "no signal" if tried else "not measured"


def _in_dtype(dtype: str, noise: Mapping[str, float], cells: Sequence[Cell]) -> str:
    """As _tolerance, of one dtype."""
    own = [cell for cell in cells if dtype in _shown(cell)]
    if noise.get(dtype, 0.0) > NOISE:
        return "too tight"
    if any(max(cell.signal.values()) < CLEAR for cell in own):
        return "too loose"
    if dtype not in noise:
        return "not measured"
    return "hidden" if _hidden(dtype, cells) else "sound" if own else "no signal"


def _shown(cell: Cell) -> dict[str, float]:
    """The signal without the dtypes in which it is faint, and clear in another one."""
    largest = max(cell.signal.values())
    return {dtype: share for dtype, share in cell.signal.items() if share >= min(CLEAR, largest)}


def _hidden(dtype: str, cells: Iterable[Cell]) -> list[str]:
    """The mutants that are faint in this dtype and clear in another one."""
    return [
        cell.mutant for cell in cells if cell.signal.get(dtype, CLEAR) < CLEAR <= max(cell.signal.values())
    ]


def _earns(name: str, kills: Sequence[str], alone: Sequence[str], tried: int) -> str:
    if not tried:
        return "not measured"
    if alone:
        return f"alone catches {len(alone)}"
    caught = f"second witness of {len(kills)}" if kills else "catches nothing of the catalogue"
    return f"{caught}; stays: {stays().get(name, 'no reason given')}"


def mutation(evidence: Evidence, variants: Iterable[str]) -> Mutation:
    """How much of the catalogue about these variants was injected, and why the rest was not."""
    rows = {row.mutant for row in evidence.rows}
    judged = {*variants}
    wanted = [m.name for m in load_catalogue().values() if m.equivalent is None and judged & {*m.applies_to}]
    begun = set(evidence.records.get("mutant", []))
    broken = [name for name in wanted if name not in rows and name in begun]
    idle = len(wanted) - len(rows) - len(broken)
    why = []
    if broken:
        tests = counted(len(broken), "test")
        why.append(f"{tests} failed before anything was tried: {', '.join(broken)}")
    if idle > 0:
        why.append(f"{counted(idle, 'mutant')} not run")
    caught = sum(not row.survivors for row in evidence.rows)
    matrix = evidence.matrix
    whole = matrix is not None and wanted and {row.mutant for row in matrix.rows} >= {*wanted}
    of = matrix.of if matrix and whole else None
    return Mutation(len(wanted), len(rows), caught, "; ".join(why), scores(evidence), of)


def scores(evidence: Evidence) -> list[Score]:
    """By kind: of the named mutants from their rows, of the generated ones from what their tests left."""
    found: dict[Kind, list[Became]] = {}
    for row in evidence.rows:
        state: State = "survived" if row.survivors else "killed"
        found.setdefault("named", []).append(Became(row.mutant, state))
    for kind, outcomes in evidence.records.get("surveyed", []):
        found.setdefault(kind, []).extend(Became(**outcome) for outcome in outcomes)
    made = [score(kind, outcomes) for kind, outcomes in found.items()]
    return [Score(**vars(one), told=one.told) for one in made]


def mutant_rows(rows: Sequence[Row]) -> list[MutantRow]:
    """One entry a mutant, with the strongest outcome of each claim over its variants."""
    catalogue = load_catalogue()
    made = []
    for row in rows:
        mutant = catalogue[row.mutant]
        ran = dict.fromkeys(cell.claim for cell in row.cells if cell.outcome != "unreached")
        first = next((cell for cell in row.cells if cell.outcome == "killed"), None)
        tried = [*takewhile(lambda cell: cell.outcome != "killed", row.cells), *([first] if first else [])]
        made.append(
            MutantRow(
                name=row.mutant,
                breaks=mutant.breaks,
                models=mutant.models,
                applies_to=row.variants,
                outcomes={claim: _strongest(row, claim) for claim in ran},
                killers=row.killers,
                survives_on=row.survivors,
                first_kill=_kill(first) if first else None,
                seconds=round(sum(cell.seconds for cell in tried), 4),
            )
        )
    return made


def _kill(kill: Cell) -> dict[str, Any]:
    return {"claim": kill.claim, "variant": kill.variant, "examples": kill.examples, "recipe": kill.detail}


def _strongest(row: Row, claim: str) -> str:
    outcomes = {cell.outcome for cell in row.cells if cell.claim == claim}
    return next(outcome for outcome in ("killed", "crashed", "survived", "unreached") if outcome in outcomes)


def probed(records: Sequence[Mapping[str, Any]]) -> list[ProbeClaim]:
    """The training probe's records by assertion, each with its tightest or worst figure."""
    made = []
    for claim in dict.fromkeys(record["claim"] for record in records):
        own = [record for record in records if record["claim"] == claim]
        tight = min(own, key=_margin)
        made.append(
            ProbeClaim(
                claim=claim,
                catches=MEASUREMENTS[name].catches
                if (name := claim.partition(":")[0]) in MEASUREMENTS
                else "",
                holds=sum(record["holds"] for record in own),
                measured=len(own),
                got=tight["value"],
                wanted=f"{tight['relation']} {tight['bound']:g}" if tight["bound"] is not None else "a bound",
                where=f"{tight['variant']} on {tight['model']}",
                why=tight["why"],
            )
        )
    return made


def _margin(record: Mapping[str, Any]) -> tuple[bool, float]:
    """How far the value is from its bound, in units of the larger of the two; first what fails, the farthest
    before all.
    """
    value, bound, holds = record["value"], record["bound"], record["holds"]
    if value is None or bound is None:
        return holds, 0.0 if holds else -inf
    margin = abs(value - bound) / (max(abs(value), abs(bound)) or 1.0)
    return holds, margin if holds else -margin


def gaps(tracer: Tracer | None, narrowed: str = "") -> Gaps:
    """Lines and branches that no test ran, and functions that no mutant changes: of a run that was not
    narrowed.
    """
    touched = {function_of(target) for mutant in load_catalogue().values() for target in mutant.targets}
    untouched = [str(function) for function in functions() if function not in touched]
    why = f"only a run of everything can tell, and this one was narrowed by {narrowed}" if narrowed else ""
    return Gaps(
        tracer.files() if tracer else [],
        untouched,
        len(functions()),
        why if tracer else "not traced in this run",
    )
