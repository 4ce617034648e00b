"""What a fault of known place makes fail: the catalogue's mutants, one by one, under every claim that runs a
changed function, with the lines that each claim ran.
"""

import dis
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from types import CodeType, FrameType
from typing import Any

from hypothesis import given, settings
from hypothesis.errors import UnsatisfiedAssumption

import lora_lite as ll
from properties.audit.inject import injected
from properties.audit.places.localise import Known, Line, Ran, Step, Steps
from properties.audit.tracing import LIBRARY, function_of, relative, statements
from properties.judging.claim import Claim
from properties.mutation import Mutant
from properties.mutation.matrix import applicable
from properties.mutation.reach import budget
from strategies.options import forget

# Cases a claim: a few for every mutant, and all of them where those show nothing.
FEW, ALL = 3, 10
# Failing claims that are asked on the other variants too: they tell whether the fault is theirs as well.
ELSEWHERE = 3


@dataclass(frozen=True)
class Trial:
    """One mutant: its true functions and lines, and what failed and passed under it."""

    mutant: str
    variant: str
    functions: frozenset[str]
    lines: frozenset[Line]
    failing: tuple[Ran, ...]
    passing: tuple[Ran, ...]

    @property
    def known(self) -> list[Known]:
        """As a fault that later runs remember."""
        claims = frozenset(test.claim for test in self.failing if test.variant in (self.variant, None))
        return [Known(function, claims) for function in sorted(self.functions)]


@cache
def cases(made: Claim, variant: str | None) -> Sequence[tuple[Any, ...]]:
    """The same ones each time, the smallest first; of a claim without drawn cases its only one."""
    if made.cases is None or variant is None:
        return [()]
    drawn: dict[str, Any] = {}

    def note(case: Any) -> None:
        drawn[repr(case)] = case

    examples = max(FEW, round(ALL * max(made.share, 0.4)))
    settings(budget(examples, shrink=False), derandomize=True)(given(made.cases(variant))(note))()
    return [(drawn[text],) for text in sorted(drawn, key=lambda text: (len(text), text))]


def on_correct_code(variants: Iterable[str]) -> dict[str, list[frozenset[Line]]]:
    """By test, the lines that each case of it runs: where a mutant lies outside, it cannot fail."""
    tests = {_test(made, variant): (made, variant) for variant in variants for made in applicable(variant)}
    return {
        test: [ran_by(made, case)[0] for case in cases(made, variant)]
        for test, (made, variant) in tests.items()
    }


def ran_by(made: Claim, case: tuple[Any, ...]) -> tuple[frozenset[Line], bool]:
    """The statements of lora_lite that a case runs, and whether it holds.

    coverage.py, which traces whole tests, takes longer to tell many short cases apart than these take.
    """
    seen: set[tuple[str, int]] = set()

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            seen.add((frame.f_code.co_filename, frame.f_lineno))
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        return line if frame.f_code.co_filename.startswith(str(LIBRARY)) else None

    before, holds = sys.gettrace(), True
    sys.settrace(call)
    try:
        made.judge(*case)
    except UnsatisfiedAssumption:
        pass
    except Exception:  # whatever it ends with is the answer: the claim fails under this mutant
        holds = False
    finally:
        sys.settrace(before)
    return heads((relative(file), number) for file, number in seen), holds


def steps_of(correct: Mapping[str, Sequence[Set[Line]]]) -> tuple[Steps, Steps]:
    """By claim the steps that every case of it runs, and those that some case does."""
    known = {(statement.file, statement.line): statement for statement in statements().values()}
    always: dict[str, frozenset[Step]] = {}
    ever: dict[str, frozenset[Step]] = {}
    for test, runs in correct.items():
        steps = [frozenset(known[line].step for line in lines if line in known) for lines in runs]
        claim = _claim(test)[0]
        always[claim] = frozenset.intersection(always.get(claim, steps[0]), *steps)
        ever[claim] = frozenset.union(ever.get(claim, steps[0]), *steps)
    return always, ever


def run(mutant: Mutant, correct: Mapping[str, Sequence[frozenset[Line]]]) -> Trial:
    """Every claim on the mutant's first variant, and some of those that fail on the other ones."""
    functions, changed = true_place(mutant)
    touched = {(of.file, of.line) for of in statements().values() if of.function in functions}
    first, found = mutant.applies_to[0], dict[str, tuple[Ran, bool]]()

    def judge(made: Claim, variant: str, few: int) -> bool:
        test, drawn = _test(made, variant), cases(made, variant)
        lines = frozenset[Line]()
        # The smallest comes first, and so the first to fail is the smallest that does.
        for number in range(0, len(drawn), max(1, (len(drawn) - 1) // (few - 1))):
            if touched.isdisjoint(correct[test][number]):
                lines |= correct[test][number]
                continue
            ran, holds = ran_by(made, drawn[number])
            lines = lines | ran if holds else ran
            if not holds:
                break
        else:
            holds = True
        found[test] = Ran(made.name, None if made.cases is None else variant, lines), holds
        return not holds

    forget()  # what strategies remember of the library is no mutant's answer
    with injected(mutant.name):
        for few in (FEW, ALL):
            red = [made for made in applicable(first) if judge(made, first, few)]
            if red:
                break
        asked = [made for made in red if made.cases is not None][:ELSEWHERE]
        for variant in (v for v in ll.VARIANTS if v != first):
            for made in (made for made in asked if made in applicable(variant)):
                judge(made, variant, FEW)
    forget()
    sides = [tuple(ran for ran, holds in found.values() if holds == side) for side in (False, True)]
    return Trial(mutant.name, first, functions, changed, sides[0], sides[1])


def heads(lines: Iterable[Line]) -> frozenset[Line]:
    """The first lines of the statements that these are part of."""
    known = statements()
    return frozenset((of.file, of.line) for line in lines if (of := known.get(line)))


def _test(made: Claim, variant: str) -> str:
    return f"{made.name} {'' if made.cases is None else variant}"


def _claim(test: str) -> tuple[str, str | None]:
    claim, _, variant = test.partition(" ")
    return claim, variant or None


def true_place(mutant: Mutant) -> tuple[frozenset[str], frozenset[Line]]:
    """The functions that a mutant changes, and the statements: of what it only adds, those on both sides."""
    originals = {target: target.__code__ for target in mutant.targets}
    lines = set()
    with mutant.injected():
        for function, before in originals.items():
            lines |= {(relative(before.co_filename), line) for line in differing(before, function.__code__)}
    return frozenset(known.key for target in originals if (known := function_of(target))), heads(lines)


def differing(before: CodeType, after: CodeType) -> set[int]:
    """The lines of `before` that `after` does something else in."""
    old, new = list(_instructions(before)), list(_instructions(after))
    found: set[int] = set()
    did, does = ([what for what, _ in side] for side in (old, new))
    for kind, i, j, _, _ in SequenceMatcher(None, did, does, autojunk=False).get_opcodes():
        if kind != "equal":
            # What is only added has no line of its own in the code as it was.
            found |= {line for _, line in (old[i:j] if j > i else old[max(0, i - 1) : i + 1])}
    return found


def _instructions(code: CodeType) -> Iterator[tuple[tuple[str, str], int]]:
    """What a code and those inside of it do, but for where they jump to, with lines."""
    jumps, line = {*dis.hasjrel, *dis.hasjabs}, code.co_firstlineno
    for step in dis.get_instructions(code):
        line = step.positions.lineno if step.positions and step.positions.lineno else line
        if isinstance(step.argval, CodeType):
            yield (step.opname, step.argval.co_name), line
            yield from _instructions(step.argval)
        elif step.opname not in ("RESUME", "COPY_FREE_VARS", "MAKE_CELL", "NOP", "EXTENDED_ARG"):
            yield (step.opname, "" if step.opcode in jumps else repr(step.argval)), line
