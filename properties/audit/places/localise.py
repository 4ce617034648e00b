"""Where the fault is: functions and their lines, ranked by what failing and passing claims ran, and by what
earlier runs remember.

Four figures, multiplied, each with an exponent (WEIGHTS):

claims    Ochiai's coefficient (Abreu et al. 2006) of the function over the claims about one variant
variants  the same over variants: of what the failing claims of a variant ran, and no variant that passes
memory    how like the failing claims are to those of faults that were known in the function, as SIMFL does
          (Kim et al. 2021): claims that seldom fail weigh more, and many alike faults more than one
strays    the share of failing claims that took another way through the function than ever when they held

Nothing here runs, reads or imports lora_lite: lines, statements and memories come as plain data.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from math import log, prod, sqrt
from typing import TypeVar

Line = tuple[str, int]
# A statement of a function, by number.
Step = tuple[str, int]
Steps = Mapping[str, Set[Step]]
Item = TypeVar("Item", bound=Hashable)

# Fitted to the catalogue and rounded: see python -m properties.audit.places. Beside each exponent what
# stands in for 0, so that one figure alone rules nothing out.
WEIGHTS = {"claims": (2.0, 0.0), "variants": (3.0, 0.01), "memory": (1.5, 0.1), "strays": (1.0, 0.03)}


@dataclass(frozen=True)
class Statement:
    """What a line is part of.

    function: as "file name". number: of the statement in its function, from 0. size: how much its own lines
    say, in nodes of the syntax tree.
    """

    function: str
    file: str
    line: int
    number: int
    size: int

    @property
    def step(self) -> Step:
        """As earlier runs know it, whatever has been written above the function since."""
        return self.function, self.number


@dataclass(frozen=True)
class Ran:
    """One claim and the lines that it ran: where it fails, those of its smallest failing case.

    variant: None for a claim about the library as a whole. stage, tensor: what failed, where it is declared.
    """

    claim: str
    variant: str | None
    lines: frozenset[Line]
    stage: str | None = None
    tensor: str | None = None


@dataclass(frozen=True)
class Known:
    """A fault of earlier runs: the function that it was in, and the claims that failed."""

    function: str
    claims: frozenset[str]


@dataclass(frozen=True)
class Memory:
    """What earlier runs leave behind.

    faults  those whose place was known
    always  by claim, the steps that every case of it ran while it held
    ever    by claim, the steps that some case of it ran while it held
    """

    faults: Sequence[Known] = ()
    always: Steps = field(default_factory=dict)
    ever: Steps = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """A function that may be at fault, as "file name". lines: its statements, the likeliest first.

    score: a share of 1 over all places. why: the figures that made it. own: in the module of the variant.
    """

    function: str
    file: str
    lines: tuple[int, ...]
    score: float
    why: dict[str, float]
    own: bool = False

    def __str__(self) -> str:
        return f"{self.file}:{self.lines[0]} {self.function.partition(' ')[2]}"


def localise(
    failing: Sequence[Ran],
    passing: Sequence[Ran],
    statements: Mapping[Line, Statement],
    memory: Memory | None = None,
    *,
    variant: str | None = None,
    module: str | None = None,
) -> list[Place]:
    """Every function that a failing claim about `variant`, or about the library as a whole, has run.

    Without a variant all claims count, each once, whatever it was about. Of equal places one in `module`, the
    variant's file, comes first, then the one with more statements, then by file and line.
    """
    memory = memory or Memory()
    about = [
        [test for test in side if variant is None or test.variant in (variant, None)]
        for side in (failing, passing)
    ]
    red, green = (
        {claim: _steps(ran, statements) for claim, ran in _by("claim", side).items()} for side in about
    )
    # A claim that fails for one variant and passes for another one fails.
    passed = [ran for claim, ran in green.items() if claim not in red]
    lines = ochiai(list(red.values()), passed)
    strays, turns = _strays(red, memory)
    figures = {
        "claims": ochiai([_functions(ran) for ran in red.values()], [_functions(ran) for ran in passed]),
        "variants": _over_variants(failing, passing, statements),
        "memory": likeness(red.keys(), memory.faults, red.keys() | green.keys()),
        "strays": strays,
    }
    order = sorted(lines, key=lambda s: (s.step not in turns, -lines[s], -s.size, s.line))
    return ranked(_places(order, figures, module))


def _places(
    order: Sequence[Statement], figures: Mapping[str, Mapping[str, float]], module: str | None
) -> list[Place]:
    """Not yet scored; each with its statements in this order."""
    by_function = defaultdict(list)
    for statement in order:
        by_function[statement.function].append(statement)
    return [
        Place(
            function,
            own[0].file,
            tuple(statement.line for statement in own),
            0.0,
            {name: round(of.get(function, 0.0), 4) for name, of in figures.items()},
            own[0].file == module,
        )
        for function, own in by_function.items()
    ]


def ranked(places: Sequence[Place], weights: Mapping[str, tuple[float, float]] = WEIGHTS) -> list[Place]:
    """By their figures: scored, the likeliest first."""
    scored = [(prod((p.why[name] + least) ** by for name, (by, least) in weights.items()), p) for p in places]
    total = sum(score for score, _ in scored) or 1.0
    shares = [replace(place, score=round(score / total, 9)) for score, place in scored]
    return sorted(shares, key=lambda p: (-p.score, not p.own, -len(p.lines), p.file, min(p.lines)))


def likeliest_lines(places: Sequence[Place]) -> list[Line]:
    """Of all places: each line has its function's share, halved from one line to the next."""
    weighed = [
        (-place.score * 0.5**rank, number, (place.file, line))
        for number, place in enumerate(places)
        for rank, line in enumerate(place.lines)
    ]
    return [line for _, _, line in sorted(weighed)]


def ochiai(failing: Sequence[Set[Item]], passing: Sequence[Set[Item]]) -> dict[Item, float]:
    """Of everything that something failing ran: 1 where all that fails ran it and nothing else did."""
    with_it, without = (Counter(item for ran in side for item in ran) for side in (failing, passing))
    return {item: count / sqrt(len(failing) * (count + without[item])) for item, count in with_it.items()}


def _over_variants(
    failing: Sequence[Ran], passing: Sequence[Ran], statements: Mapping[Line, Statement]
) -> dict[str, float]:
    """Where no claim about a variant fails, variants tell nothing, and every function has the same."""
    broken = {test.variant for test in failing}
    sides = [_by("variant", side) for side in (failing, [t for t in passing if t.variant not in broken])]
    red, green = ([_functions(_steps(ran, statements)) for ran in side.values()] for side in sides)
    return ochiai(red, green)


def likeness(failing: Set[str], faults: Sequence[Known], judged: Set[str]) -> dict[str, float]:
    """By function, how like its known faults this failure is: of each the share of failing claims in common,
    to the fourth power.

    Claims that were not judged now, or that no known fault made fail, tell nothing.
    """
    seldom = Counter(claim for fault in faults for claim in fault.claims)
    weight = {claim: log((len(faults) + 1) / count) + 0.1 for claim, count in seldom.items()}
    now = failing & weight.keys()
    found: dict[str, float] = {}
    for fault in faults:
        then = fault.claims & judged
        both, either = (sum(weight[claim] for claim in claims) for claims in (now & then, now | then))
        if both:
            found[fault.function] = found.get(fault.function, 0.0) + (both / either) ** 4
    return found


def _strays(red: Mapping[str, Set[Statement]], memory: Memory) -> tuple[dict[str, float], set[Step]]:
    """Of each function the share of failing claims that left out a step which they always ran, or ran one
    that they never did; and the last steps before those.

    A function that the claim never ran when it held lies behind the fault and does not count.
    """
    counts: Counter[str] = Counter()
    turns: set[Step] = set()
    known = [claim for claim in red if claim in memory.ever]
    for claim in known:
        ran = {statement.step for statement in red[claim]}
        entered = {function for function, _ in ran} & {function for function, _ in memory.ever[claim]}
        off = [s for s in (memory.always[claim] - ran) | (ran - memory.ever[claim]) if s[0] in entered]
        counts.update({function for function, _ in off})
        for function, number in off:
            before = [n for of, n in ran if of == function and n < number]
            turns.update({(function, max(before))} if before else ())
    return {function: count / len(known) for function, count in counts.items()}, turns


def _steps(lines: Iterable[Line], statements: Mapping[Line, Statement]) -> frozenset[Statement]:
    return frozenset(statements[line] for line in lines if line in statements)


def _functions(ran: Iterable[Statement]) -> frozenset[str]:
    return frozenset(statement.function for statement in ran)


def _by(key: str, tests: Iterable[Ran]) -> dict[str, set[Line]]:
    """The lines of all tests that have this claim, or this variant, together."""
    found: dict[str, set[Line]] = {}
    for test in tests:
        if (of := getattr(test, key)) is not None:
            found.setdefault(of, set()).update(test.lines)
    return found
