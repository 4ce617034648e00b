"""Mutants of another library's package, under the claims about every library: what --subject would notice.

Lines that no claim runs are left out: convolutions and embeddings are not what is judged.
"""

import importlib
import inspect
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from torch import Tensor, nn

from properties.judging.assertions import Violation
from properties.judging.claim import Claim, load_claims_of_any
from properties.judging.outcome import NothingComparedError, NotJudgedError
from properties.mutation import generic
from properties.mutation.interface import FORWARD, Grip, Part, Seen, Wrapped, Wrapper
from properties.mutation.mutant import Mutant
from properties.mutation.reach import budget
from properties.mutation.score import Outcome
from properties.mutation.table import read
from properties.mutation.trees import tree_of
from properties.subjects.library import Library, Life, RefusedError
from properties.subjects.living import library, method_of, methods_of

Line = tuple[str, int]
# Named faults of a library's methods, in the syntax of table.py: a file a library.
PLANTED = Path(__file__).parent / "planted"


@dataclass(frozen=True)
class Ran:
    """Of a claim on correct code: the lines that it runs, how many of its cases are refused, and whether it
    breaks on one.
    """

    lines: frozenset[Line]
    refused: int
    breaks: bool


# By method and claim, those that are cheap first.
Baseline = Mapping[str, Mapping[str, Ran]]


def judged_of(subject: str, module: str) -> list[str]:
    """The methods that the package is about: those named as one of its parts; all, where none is."""
    methods = methods_of(subject)
    return [m for m in methods if m.split(":")[-1].partition("+")[0] in module.split(".")] or methods


def baseline(methods: Iterable[str], files: set[str], examples: int) -> Baseline:
    """Of correct code. What breaks there already is asked of those cases alone on which it holds."""
    found: dict[str, dict[str, Ran]] = {}
    for method in methods:
        held: dict[str, tuple[float, Ran]] = {}
        for name, made in load_claims_of_any().items():
            # A slow one runs in processes that no mutant reaches.
            if made.slow or made.standing_of(method).state is not None:
                continue
            lines, broken, began = set[Line](), list[Exception](), time.process_time()
            try:
                with _noting(files, lines):
                    meter = _past(made, broken).run(method, budget(examples, shrink=False))
            except Exception:  # all of it is refused, or no claim about this method
                continue
            ran = Ran(frozenset(lines), meter.shown.get("refused", 0), bool(broken))
            held[name] = (time.process_time() - began, ran)
        found[method] = {name: ran for name, (_, ran) in sorted(held.items(), key=lambda item: item[1][0])}
    return found


def _past(made: Claim, broken: list[Exception]) -> Claim:
    """It goes on where it breaks."""

    def check(case: Any) -> None:
        try:
            made.check(case)
        except RefusedError:
            raise
        except Exception as error:
            broken.append(error)

    return replace(made, check=check)


def _where_it_holds(made: Claim, mutant: Mutant) -> Claim:
    """Asked with the mutant, of a case on which it holds without."""

    def check(case: Any) -> None:
        broken: list[Exception] = []
        _past(made, broken).check(case)
        if not broken:
            with mutant.injected():
                made.check(case)

    return replace(made, check=check)


@contextmanager
def _noting(files: set[str], lines: set[Line]) -> Iterator[None]:
    """Every line of these files that runs meanwhile."""

    def note(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        yield
    finally:
        sys.settrace(before)


def judged(mutant: Mutant, *, held: Baseline, examples: int) -> Outcome:
    """The first claim that notices, on any method that runs a changed line."""
    changed, asked = lines_of(mutant), load_claims_of_any()
    for method, claims in held.items():
        for name, ran in claims.items():
            if ran.lines & changed and (state := _asked(asked[name], mutant, method, ran, examples)):
                kind, why = state
                return Outcome(mutant.name, kind, name, method, why[:200])
    return Outcome(mutant.name, "survived")


def _asked(made: Claim, mutant: Mutant, method: str, ran: Ran, examples: int) -> tuple[Any, str] | None:
    """Killed or loud, and why; None where the claim holds as before. What alone is refused now is loud."""
    asked, state = (_where_it_holds(made, mutant), nullcontext()) if ran.breaks else (made, mutant.injected())
    try:
        with state:
            meter = asked.run(method, budget(examples, shrink=False))
    except Violation as violation:
        return "killed", str(violation).splitlines()[0]
    except NothingComparedError:
        return None
    except NotJudgedError as error:
        return "loud", str(error)
    except Exception as error:
        return "loud", f"{type(error).__name__}: {error}"
    refused = meter.shown.get("refused", 0) - ran.refused
    return ("loud", f"{refused} more cases are refused") if refused > 0 else None


def lines_of(mutant: Mutant) -> set[Line]:
    """Those of the node that it changes; all of a function that is wrapped, or changed by name."""
    found: set[Line] = set()
    for target in mutant.targets:
        source, first = inspect.getsourcelines(target.__code__)
        file, span = target.__code__.co_filename, range(first, first + len(source))
        for step in mutant.changes:
            if isinstance(step, generic.Edit):
                node: Any = step.place(tree_of(target)).there[0]
                span = range(first + node.lineno - 1, first + node.end_lineno)
        found |= {(file, line) for line in span}
    return found


def mutants_of(module: str, methods: list[str], held: Baseline, seed: int, size: int) -> list[Mutant]:
    """So many generic ones of lines that a claim runs, and half as many of the interface."""
    run = {line for claims in held.values() for ran in claims.values() for line in ran.lines}
    # Of a module without the layer's own forward, those alone that it runs.
    made, outside = (
        [mutant for mutant in some if lines_of(mutant) & run]
        for some in (generic.generated([importlib.import_module(module)], methods), interface(methods[0]))
    )
    drawn = random.Random(seed).sample(outside, min(size // 2, len(outside)))
    return [*generic.sample(made, seed, size), *drawn]


def all_of(module: str, methods: list[str]) -> list[Mutant]:
    """Every generic one, and every one of the interface."""
    return [*generic.generated([importlib.import_module(module)], methods), *interface(methods[0])]


def planted(subject: str, methods: Iterable[str]) -> list[Mutant]:
    """The named faults of these methods, if there is a table for the library."""
    file = PLANTED / f"{subject}.txt"
    families = {method.partition(":")[2].partition("+")[0] for method in methods}
    rows = read(file.read_text(encoding="utf-8"), file.name) if file.exists() else ()
    return [mutant for mutant in rows if families & {*mutant.applies_to}]


def files_of(subject: str, module: str, also: Iterable[Mutant] = ()) -> set[str]:
    """Of the package, of the subjects, which the interface operators change, and of what else is changed."""
    modules = generic.modules_of(importlib.import_module(module))
    own = Path(inspect.getfile(type(library(subject)))).parent
    changed = {target.__code__.co_filename for mutant in also for target in mutant.targets}
    files = {file for one in modules if (file := one.__file__)}
    return files | {str(path) for path in own.glob("*.py")} | changed


def interface(method: str) -> Iterator[Wrapped]:
    """What is wrong with a method's layer, merge and files, seen from outside; what it offers tells which."""
    found, offers = library(method.partition(":")[0]), method_of(method).offers
    kind, (life, layer) = type(found), _kinds(found, method)
    grip = Grip(method, lambda life: [[*life.trainable().values()]], _base, makes=True)
    if hasattr(layer, "base_layer"):
        for name, (breaks, give) in FORWARD.items():
            # That one reads the weight by the shape of lora_lite's adapters.
            if name != "update_transposed":
                yield grip.mutant(name, breaks, type(layer).forward, _forward(give))
    yield from grip.mutants(kind.attach, kind.load, life.save, life.merge if "merge" in offers else None)
    lost = grip.merging(lambda now, before: before)
    if "merge" in offers:
        yield grip.mutant("merge_lost", "the update is not folded in", life.merge, lost)
    if "unmerge" in offers:
        yield grip.mutant("unmerge_lost", "the update stays in", life.unmerge, lost)


def _base(life: Life) -> Callable[[], dict[str, Part]]:
    return lambda: {name: Part(tensor) for name, tensor in life.base().items()}


def _kinds(found: Library, method: str) -> tuple[type[Life], nn.Module]:
    """Of the method's life, and one of its layers."""
    from hypothesis import find

    from properties.subjects.living import begin, library_cases

    life = begin(find(library_cases(method, dtypes=("float32",)), lambda case: True))
    return type(life), life.layer(0)


def _forward(give: Callable[[Seen], Tensor]) -> Wrapper:
    def wrapper(original: Callable[..., Tensor], self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        given = original(self, x, *args, **kwargs)
        return give(Seen(self, x, self.base_layer(x), given, original, None))

    return wrapper
