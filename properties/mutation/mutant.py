"""A mutant: one or more replacements in the source of lora_lite's functions, applied in memory and undone
afterwards.

A replacement swaps the code object of a function that already exists, so that everyone who holds the
function, under whatever name and in whatever module, runs the changed one. Nothing is written to disk.
"""

import ast
import builtins
import dis
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import CodeType, FunctionType
from typing import Any

from strategies.options import BUILT_IN

ALL = "all"


class InjectionError(Exception):
    """A mutant that cannot be applied: its text is not, or not once, in the function; it would test
    nothing.
    """


@dataclass(frozen=True)
class Change:
    """In the source of `function`, `old` (found exactly once) becomes `new`."""

    function: Any
    old: str
    new: str

    @property
    def target(self) -> FunctionType:
        """The plain function under decorators and bound methods."""
        return inspect.unwrap(getattr(self.function, "__func__", self.function))  # type: ignore[no-any-return]

    @property
    def source(self) -> str:
        """The target's, from the first column on."""
        return textwrap.dedent(inspect.getsource(self.target))

    def rewrite(self, source: str) -> str:
        """The source with the change. Raises InjectionError where the text is not there exactly once."""
        if source.count(self.old) != 1 or self.old == self.new:
            name, count = self.target.__qualname__, source.count(self.old)
            raise InjectionError(
                f"{name}: {self.old!r} occurs {count} times, wanted once, to become {self.new!r}"
            )
        return source.replace(self.old, self.new)


def changed(function: FunctionType, before: str, after: str) -> CodeType:
    """What `function` runs with its source changed. Raises InjectionError where that makes no difference."""
    name, old, new = function.__qualname__, definition_in(before), definition_in(after)
    if ast.dump(old.args) != ast.dump(new.args):
        raise InjectionError(
            f"{name}: the change is in the arguments, which do not travel with the code: change the body"
        )
    code = compiled(function, new)
    # Both compiled here: the function's own code is compiled in another place, and never equal to either.
    if effect(code) == effect(compiled(function, old)):
        raise InjectionError(f"{name}: the change has no effect on what the function does")
    if code.co_freevars != (free := function.__code__.co_freevars):
        raise InjectionError(f"{name}: the change closes over {code.co_freevars}, the original over {free}")
    if unknown := sorted(globals_in(code) - function.__globals__.keys() - vars(builtins).keys()):
        raise InjectionError(
            f"{name}: {function.__module__} knows no {', '.join(unknown)}: a NameError is no silent failure"
        )
    return code


def definition_in(source: str) -> ast.FunctionDef:
    """The function that is all of the source, without its decorators."""
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    return definition


def effect(code: CodeType) -> tuple[Any, ...]:
    """All of a code, and of those inside of it, but where it stands in its file."""
    # As text, since 1, 1.0 and True are equal.
    constants = tuple(effect(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts)
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_exceptiontable


def globals_in(code: CodeType) -> set[str]:
    """The global names that a function's code reads, and those of the functions inside of it."""
    inner = (globals_in(c) for c in code.co_consts if isinstance(c, CodeType))
    return {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}.union(*inner)


def compiled(function: FunctionType, definition: ast.FunctionDef) -> CodeType:
    """The code of a definition, made to fit the function that it stands in for."""
    # Inside of a function that has what the original closes over (the __class__ of a super(), say) as its
    # parameters; by a global name, which is how a recursive one finds itself.
    free = function.__code__.co_freevars
    outer = ast.parse(f"def outer({', '.join(free)}):\n    global {definition.name}")
    outer.body[0].body.append(definition)  # type: ignore[attr-defined]  # a FunctionDef
    namespace = dict(function.__globals__)
    exec(compile(outer, f"<mutant of {function.__qualname__}>", "exec"), namespace)
    namespace["outer"](*free)
    code: CodeType = namespace[definition.name].__code__
    return code


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
    by_chance   what it does differs from run to run, so that the case that caught it need not show it again
    history     it shows after certain steps of a model's life alone, and a life of them must show it
    """

    name: str
    breaks: str
    models: str
    applies_to: tuple[str, ...]
    changes: tuple[Change, ...]
    equivalent: str | None = None
    by_chance: bool = False
    history: bool = False

    @cached_property
    def codes(self) -> dict[FunctionType, CodeType]:
        """What each changed function runs. Raises InjectionError where the mutant does not apply."""
        before: dict[Any, str] = {step.target: step.source for step in self.changes}
        after = dict(before)
        for step in self.changes:
            after[step.target] = step.rewrite(after[step.target])
        return {function: changed(function, before[function], source) for function, source in after.items()}

    @contextmanager
    def injected(self) -> Iterator[None]:
        """lora_lite with this failure inside, and as it was outside.

        Raises InjectionError where it does not apply.
        """
        originals = {function: function.__code__ for function in self.codes}
        try:
            for function, code in self.codes.items():
                function.__code__ = code
            yield
        finally:
            for function, code in originals.items():
                function.__code__ = code


CATALOGUE: dict[str, Mutant] = {}


def mutant(
    name: str,
    *changes: Change,
    breaks: str,
    models: str,
    applies_to: str | tuple[str, ...] = ALL,
    equivalent: str | None = None,
    by_chance: bool = False,
    history: bool = False,
) -> Mutant:
    """Add a mutant to the catalogue."""
    if name in CATALOGUE:
        raise ValueError(f"two mutants are called {name}")
    # A user's variant has no oracle, without which much of the catalogue cannot be seen.
    variants = BUILT_IN if applies_to == ALL else (applies_to,) if isinstance(applies_to, str) else applies_to
    CATALOGUE[name] = made = Mutant(name, breaks, models, variants, changes, equivalent, by_chance, history)
    return made


PARTS = (
    *(
        "of_lora",
        "of_pissa",
        "of_dora",
        "of_delora",
        "of_ia3",
        "of_hra",
        "of_eva",
        "of_antipasto",
        "of_shared",
    ),
    *("calibration", "targeting", "runtime", "checkpoint", "engines", "merging", "scopes", "training"),
    *("lifecycle", "structures", "declarations"),
)


def load_catalogue() -> dict[str, Mutant]:
    """Import every part of the catalogue."""
    for part in PARTS:
        importlib.import_module(f"properties.mutation.catalogue.{part}")
    return CATALOGUE
