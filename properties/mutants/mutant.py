"""A mutant: one or more replacements in the source of lora_lite's functions, applied in memory and undone afterwards.

A replacement swaps the code object of a function that already exists, so that everyone who holds the function, under
whatever name and in whatever module, runs the changed one. Nothing is written to disk.
"""

import ast
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

import lora_lite as ll

ALL = "all"


class InjectionError(Exception):
    """A mutant that cannot be applied: its text is not, or not once, in the function; it would test nothing."""


@dataclass(frozen=True)
class Change:
    """In the source of `function`, `old` (found exactly once) becomes `new`."""

    function: Any
    old: str
    new: str

    def compiled(self) -> tuple[FunctionType, CodeType]:
        """The function, and its code with the change."""
        function = inspect.unwrap(getattr(self.function, "__func__", self.function))
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(self.old) != 1:
            raise InjectionError(f"{function.__qualname__}: {self.old!r} occurs {source.count(self.old)} times, wanted once")
        tree = ast.parse(source.replace(self.old, self.new))
        definition = tree.body[0]
        assert isinstance(definition, ast.FunctionDef)
        definition.decorator_list = []
        namespace: dict[str, Any] = {}
        exec(compile(tree, f"<mutant of {function.__qualname__}>", "exec"), dict(function.__globals__), namespace)
        changed = namespace[definition.name].__code__
        if changed.co_freevars != function.__code__.co_freevars:
            raise InjectionError(f"{function.__qualname__}: a function with a closure cannot be changed in place")
        return function, changed

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The change is in force inside, and undone whatever happens."""
        function, changed = self.compiled()
        original, defaults = function.__code__, function.__defaults__
        function.__code__ = changed
        try:
            yield
        finally:
            function.__code__, function.__defaults__ = original, defaults


def change(function: Any, old: str, new: str) -> Change:
    """Short for Change(function, old, new)."""
    return Change(function, old, new)


@dataclass(frozen=True)
class Mutant:
    """A silent failure.

    breaks      in one line, what is wrong
    models      the class of real bug that it stands for
    applies_to  the variants in which it shows
    changes     what it does to the source
    equivalent  why no property can tell it from correct code; None for one that must be caught
    """

    name: str
    breaks: str
    models: str
    applies_to: tuple[str, ...]
    changes: tuple[Change, ...]
    equivalent: str | None = None

    @contextmanager
    def injected(self) -> Iterator[None]:
        """lora_lite with this failure inside, and as it was outside. Raises InjectionError where it does not apply."""
        with ExitStack() as stack:
            for step in self.changes:
                stack.enter_context(step.applied())
            yield


CATALOGUE: dict[str, Mutant] = {}


def mutant(
    name: str,
    *changes: Change,
    breaks: str,
    models: str,
    applies_to: str | tuple[str, ...] = ALL,
    equivalent: str | None = None,
) -> Mutant:
    """Add a mutant to the catalogue."""
    if name in CATALOGUE:
        raise ValueError(f"two mutants are called {name}")
    variants = tuple(ll.VARIANTS) if applies_to == ALL else (applies_to,) if isinstance(applies_to, str) else applies_to
    CATALOGUE[name] = made = Mutant(name, breaks, models, variants, changes, equivalent)
    return made


PARTS = ("forward", "gradients", "inits", "calibration", "targeting", "runtime", "checkpoint", "merging")


def load_catalogue() -> dict[str, Mutant]:
    """Import every part of the catalogue."""
    for part in PARTS:
        importlib.import_module(f"properties.mutants.{part}")
    return CATALOGUE


Killer = Callable[[Mutant], None]
