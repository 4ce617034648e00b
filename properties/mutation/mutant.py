"""A mutant: one or more changes in the syntax trees of live functions, in memory and undone afterwards.

A change swaps the code object of a function that already exists, so that everyone who holds the function,
under whatever name and in whatever module, runs the changed one. Nothing is written to disk.
"""

import ast
import builtins
import copy
import dis
import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from types import CodeType, FunctionType
from typing import Any, Protocol

from properties.judging.interrupting import forget_runs
from properties.mutation.trees import InjectionError, replace, tree_of


class Step(Protocol):
    """One change of one function."""

    @property
    def target(self) -> Any:  # a FunctionType, which mypy takes for a method wherever it is an attribute
        ...

    def apply(self, definition: ast.FunctionDef) -> None:
        """Change the definition. Raises InjectionError where that is not possible."""


@dataclass(frozen=True)
class Change:
    """In the tree of `function`, `before` (found exactly once) becomes `after`: both Python, an expression or
    statements; see trees.py. The function is a live one, or its "module:name".
    """

    function: Any
    before: str
    after: str

    @property
    def target(self) -> Any:
        """The plain function under decorators and bound methods."""
        return plain(named(self.function) if isinstance(self.function, str) else self.function)

    def apply(self, definition: ast.FunctionDef) -> None:
        replace(self.target, definition, self.before, self.after)


def plain(function: Any) -> FunctionType:
    """The function under a property, a class method and what wraps it."""
    function = getattr(function, "fget", None) or function
    found: FunctionType = inspect.unwrap(getattr(function, "__func__", function))
    return found


@cache
def named(name: str) -> Any:
    """What "module:a.b" names, as it stands in its class. Raises InjectionError where there is none."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        try:
            found = inspect.getattr_static(found, part)
        except AttributeError:
            raise InjectionError(f"{name}: there is no {part} in it (renamed, or moved?)") from None
    return found


def changed(function: FunctionType, after: ast.FunctionDef) -> CodeType:
    """What `function` runs with its definition changed. Raises InjectionError where it is no other code."""
    name, before = f"{function.__module__}:{function.__qualname__}", tree_of(function)
    code = compiled(function, after)
    if effect_of(function, after) == effect_of(function, before):
        raise InjectionError(f"{name}: the change has no effect on what the function does")
    if code.co_freevars != (free := function.__code__.co_freevars):
        raise InjectionError(f"{name}: the change closes over {code.co_freevars}, the original over {free}")
    if unknown := sorted(globals_in(code) - function.__globals__.keys() - vars(builtins).keys()):
        raise InjectionError(
            f"{name}: {function.__module__} knows no {', '.join(unknown)}: a NameError is no silent failure"
        )
    return code


def effect_of(function: FunctionType, definition: ast.FunctionDef) -> tuple[Any, ...]:
    """What a definition does, whatever its layout: two with the same are one mutant."""
    flat = copy.deepcopy(definition)
    for node in ast.walk(flat):
        # A line of its own costs an instruction here and there.
        if hasattr(node, "lineno"):
            node.lineno, node.end_lineno, node.col_offset, node.end_col_offset = 1, 1, 0, 0  # type: ignore[attr-defined]
    return effect(compiled(function, flat))


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
    elsewhere   the test that notices it where no claim can, in several processes; `equivalent` to the claims
    """

    name: str
    breaks: str
    models: str
    applies_to: tuple[str, ...]
    changes: tuple[Step, ...]
    equivalent: str | None = None
    by_chance: bool = False
    history: bool = False
    elsewhere: str | None = None

    @cached_property
    def targets(self) -> tuple[FunctionType, ...]:
        """The functions that it changes."""
        return tuple(dict.fromkeys(step.target for step in self.changes))

    @property
    def reached(self) -> set[CodeType]:
        """The code that a claim has to run in order to notice: of a decorator's wrapper, what is wrapped."""
        return {inspect.unwrap(target).__code__ for target in self.targets}

    @cached_property
    def trees(self) -> dict[FunctionType, ast.FunctionDef]:
        """What it makes of each of them. Raises InjectionError where the mutant does not apply."""
        after = {target: copy.deepcopy(tree_of(target)) for target in self.targets}
        for step in self.changes:
            step.apply(after[step.target])
        return after

    @cached_property
    def codes(self) -> dict[FunctionType, CodeType]:
        """What each changed function runs. Raises InjectionError where the mutant does not apply."""
        return {function: changed(function, tree) for function, tree in self.trees.items()}

    @property
    def effect(self) -> frozenset[Any]:
        """What it does: the same for two mutants that compile to the same bytecode."""
        return frozenset((f.__module__, f.__qualname__, effect_of(f, t)) for f, t in self.trees.items())

    @contextmanager
    def injected(self) -> Iterator[None]:
        """lora_lite with this failure inside, and as it was outside.

        Raises InjectionError where it does not apply.
        """
        originals = {function: function.__code__ for function in self.codes}
        forget_runs()
        try:
            for function, code in self.codes.items():
                function.__code__ = code
            yield
        finally:
            for function, code in originals.items():
                function.__code__ = code
            forget_runs()
