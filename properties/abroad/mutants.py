"""Mutants of another library's package: planted ones, generic ones, and those of what its methods give.

Lines that no claim runs are left out: convolutions and embeddings are not what is judged.
"""

import importlib
import inspect
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import find
from torch import Tensor, nn

from properties.mutation import generic
from properties.mutation.interface import FORWARD, Grip, Part, Seen, Wrapped, Wrapper
from properties.mutation.mutant import Mutant
from properties.mutation.table import read
from properties.mutation.trees import tree_of
from properties.subjects.library import Library, Life
from properties.subjects.living import begin, library, library_cases, method_of, methods_of

Line = tuple[str, int]
# Named faults of a library's methods, in the syntax of mutation/table.py: a file a library.
PLANTED = Path(__file__).parent / "planted"


def judged_of(subject: str, module: str) -> list[str]:
    """The methods that the package is about: those named as one of its parts; all, where none is."""
    methods = methods_of(subject)
    return [m for m in methods if m.split(":")[-1].partition("+")[0] in module.split(".")] or methods


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


def drawn(module: str, methods: list[str], run: set[Line], seed: int, size: int) -> list[Mutant]:
    """So many generic ones of lines that a claim runs, and half as many of the interface."""
    # Of a module without the layer's own forward, those alone that it runs.
    made, outside = (
        [mutant for mutant in some if lines_of(mutant) & run]
        for some in (generic.generated([importlib.import_module(module)], methods), interface(methods[0]))
    )
    few = random.Random(seed).sample(outside, min(size // 2, len(outside)))
    return [*generic.sample(made, seed, size), *few]


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
    life = begin(find(library_cases(method, dtypes=("float32",)), lambda case: True))
    return type(life), life.layer(0)


def _forward(give: Callable[[Seen], Tensor]) -> Wrapper:
    def wrapper(original: Callable[..., Tensor], self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        given = original(self, x, *args, **kwargs)
        return give(Seen(self, x, self.base_layer(x), given, original, None))

    return wrapper
