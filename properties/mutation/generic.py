"""Mutants that the generic operators make of every function of a package, each under a stable name."""

import ast
import copy
import importlib
import pkgutil
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from types import FunctionType, ModuleType
from typing import Any
from warnings import catch_warnings

import lora_lite as ll
from properties.mutation.mutant import Mutant, plain
from properties.mutation.operators import edits, left_alone
from properties.mutation.trees import InjectionError, Place, places, tree_of
from strategies.options import BUILT_IN

ASKED = ("dtype", "shape", "device", "ndim", "is_meta", "data")
# So many of the generated ones are in the default run.
SAMPLE = 12


@dataclass(frozen=True, eq=False)
class Edit:
    """The node at one place of a function, by its number in `places`, becomes another one."""

    target: Any
    number: int
    new: ast.AST

    def place(self, definition: ast.FunctionDef) -> Place:
        """Where it changes the definition."""
        return next(place for i, (place, _) in enumerate(places(definition, left_alone)) if i == self.number)

    def apply(self, definition: ast.FunctionDef) -> None:
        self.place(definition).put([copy.deepcopy(self.new)])


def modules_of(package: ModuleType) -> list[ModuleType]:
    """The package's modules and its packages' modules, or the module itself."""
    inside = pkgutil.walk_packages(getattr(package, "__path__", []), f"{package.__name__}.")
    return [package, *(importlib.import_module(found.name) for found in inside)]


@cache
def functions_of(module: ModuleType) -> tuple[FunctionType, ...]:
    """The functions written in a module and in its classes, in their order; and the wrappers around them that
    a decorator made.
    """
    found: dict[Any, None] = {}
    for thing in _inside(module, module.__name__):
        function = plain(thing)
        if isinstance(function, FunctionType) and function.__code__.co_filename == module.__file__:
            found[function] = None
            wrapper = getattr(thing, "__func__", thing)
            if wrapper is not function and isinstance(wrapper, FunctionType):
                found[wrapper] = None
    place = {f: (f.__code__.co_filename != module.__file__, f.__code__.co_firstlineno) for f in found}
    return tuple(sorted(found, key=place.__getitem__))


def _inside(owner: Any, module: str) -> Iterator[Any]:
    for thing in vars(owner).values():
        if isinstance(thing, type):
            if thing.__module__ == module:
                yield from _inside(thing, module)
        elif getattr(getattr(thing, "__func__", thing), "__module__", module) == module:
            yield thing


def mutants_of(function: FunctionType, variants: Sequence[str]) -> Iterator[Mutant]:
    """All that the operators make of a function, those without an effect too."""
    known: Counter[str] = Counter()
    where = f"{function.__module__}:{function.__qualname__}"
    # A wrapper is the decorator's own code: that the library has it at all is what can be wrong.
    wrapper = hasattr(function, "__wrapped__")
    for number, (place, node) in enumerate(places(tree_of(function), left_alone)):
        # Where only its dtype or shape is asked, a tensor may as well be detached.
        asked = isinstance(place.owner, ast.Attribute) and place.owner.attr in ASKED
        for operator, new in edits(node):
            if (asked and operator == "detached") or (wrapper and operator != "context dropped"):
                continue
            told = f"{where}: {operator}: {short(node)} => {short(new)}"
            known[told] += 1
            name = f"{told} #{known[told]}" if known[told] > 1 else told
            step = Edit(function, number, new)
            yield Mutant(name, told.partition(": ")[2], f"a slip: {operator}", tuple(variants), (step,))


def short(node: ast.AST) -> str:
    """The node in a few words."""
    text = " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
    return text if len(text) <= 40 else f"{text[:24]}…{text[-15:]}"


def variants_of(module: ModuleType) -> list[str]:
    """The variants that run the module's code: those of a variant's own module, else all, lora first."""
    of = {name: variant.__module__ for name, variant in ll.VARIANTS.items()}
    registered = [name for name in of if name in BUILT_IN or of[name] == module.__name__]
    return [name for name in registered if module in _used_by(sys.modules[of[name]])] or registered


def _used_by(module: ModuleType) -> set[ModuleType]:
    """The variant's module, and those beside it from which it takes functions."""
    beside = {getattr(thing, "__module__", None) or "" for thing in vars(module).values()}
    package = module.__name__.rpartition(".")[0]
    near = [name for name in beside if name.startswith(f"{package}.") and package != ll.__name__]
    return {module, *(sys.modules[name] for name in near)}


def generated(packages: Iterable[ModuleType] = (ll,), variants: Sequence[str] = ()) -> list[Mutant]:
    """Every generic mutant of these packages, in the order of the code; of these variants, where given."""
    modules = [module for package in packages for module in modules_of(package)]
    functions = [(f, variants or variants_of(module)) for module in modules for f in functions_of(module)]
    return [mutant for function, own in functions for mutant in mutants_of(function, own)]


def distinct(mutants: Iterable[Mutant]) -> Iterator[Mutant]:
    """Those that compile, and to other bytecode than the original and those before them."""
    effects = set[frozenset[Any]]()
    for mutant in mutants:
        with suppress(InjectionError, SyntaxError, ValueError), catch_warnings(action="ignore"):
            if mutant.codes and (effect := mutant.effect) not in effects:
                effects.add(effect)
                yield mutant


def sample(mutants: Sequence[Mutant], seed: int, size: int) -> list[Mutant]:
    """So many of the distinct ones: the same for the same seed."""
    shuffled = random.Random(seed).sample(list(mutants), len(mutants))
    return list(islice(distinct(shuffled), size))
