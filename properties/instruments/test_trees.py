"""Mutants survive what changes nothing in the library: another layout, another name of a local."""

import ast
import copy
import re
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

import lora_lite as ll
from properties.abroad.mutants import PLANTED
from properties.instruments.in_two_processes import MUTANTS
from properties.mutation import Change, InjectionError, Mutant, load_catalogue, trees
from properties.mutation.mutant import changed, named, plain
from properties.mutation.score import KNOWN
from properties.mutation.table import FOLDER, read

pytestmark = pytest.mark.instruments

LORA = plain(ll.LoRA.adapt_output)


def defined(body: str) -> ast.FunctionDef:
    (definition,) = ast.parse(body).body
    assert isinstance(definition, ast.FunctionDef)
    return definition


def becomes(body: str, before: str, after: str) -> str:
    """The function with one fragment replaced, as text."""
    trees.replace(LORA, definition := defined(body), before, after)
    return ast.unparse(definition)


@pytest.mark.parametrize(
    ("body", "before", "after", "wanted"),
    [
        ("def f(x):\n return g( x ,1 )  # so", "g(x, 1)", "h(x)", "def f(x):\n    return h(x)"),
        ("def f(x):\n return g(x + 1)", "g(_a)", "h(_a, _a)", "def f(x):\n    return h(x + 1, x + 1)"),
        ("def f(x):\n y = 1\n g(y)\n return x", "g(_a)", "", "def f(x):\n    y = 1\n    pass\n    return x"),
        ("def f(x):\n if x: g(); h()", "if _a: _b", "_b", "def f(x):\n    g()\n    h()"),
        ("def f(x):\n q = x\n return q * 2", "y * 2", "y + y", "def f(x):\n    q = x\n    return q + q"),
        ("def f(x):\n return [g(q) for q in x]", "g(y)", "y", "def f(x):\n    return [q for q in x]"),
    ],
    ids=["layout", "a hole", "a statement", "a block", "a renamed local", "a renamed inner one"],
)
def test_a_fragment_is_found_by_what_it_is(body: str, before: str, after: str, wanted: str) -> None:
    assert becomes(body, before, after) == wanted


@pytest.mark.parametrize(
    ("body", "before", "count"),
    [
        ("def f(x):\n return x", "g(x)", 0),
        ("def f(x):\n return g(x) + g(x)", "g(x)", 2),
        ("def f(x):\n return x - 1", "x - 1.0", 0),
        ("def f(x):\n q = x\n r = q\n return q * r", "y * y", 0),
        ("def f(x):\n q = x\n r = q\n return (q * 2, r * 2)", "y * 2", 2),
        ("def f(x=g(1)) -> g(1):\n return x", "g(1)", 0),
    ],
    ids=["absent", "twice", "another type", "two names", "two locals", "arguments"],
)
def test_what_is_not_there_once_is_an_error(body: str, before: str, count: int) -> None:
    with pytest.raises(InjectionError, match=f"{re.escape(repr(before))} occurs {count} times, wanted once"):
        becomes(body, before, "None")


def test_a_fragment_that_is_no_python_and_a_function_that_is_gone_are_told() -> None:
    with pytest.raises(InjectionError, match="'x \\+': invalid syntax"):
        becomes("def f(x):\n return x", "x +", "x")
    with pytest.raises(InjectionError, match=r"LoRA\.adapt_outputs: there is no adapt_outputs in it"):
        named("lora_lite.variants.lora:LoRA.adapt_outputs")


class Renamed(ast.NodeTransformer):
    """One local under another name."""

    def __init__(self, old: str) -> None:
        self.old = old

    def visit(self, node: ast.AST) -> Any:
        if (where := trees.NAMED.get(type(node))) and getattr(node, where) == self.old:
            setattr(node, where, f"{self.old}_renamed")
        return self.generic_visit(node)


def steps(code: CodeType) -> list[Any]:
    """What a code does, whatever its names are."""
    return [code.co_code, *(steps(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts)]


def own_locals(definition: ast.FunctionDef) -> list[str]:
    """What has a name of the function's own choice: no argument, which callers may use."""
    given = {argument.arg for argument in ast.walk(definition.args) if isinstance(argument, ast.arg)}
    return sorted(trees.locals_of(definition) - given)


@pytest.mark.slow
def test_no_mutant_is_lost_where_a_local_is_renamed() -> None:
    """Each local that a mutant speaks of, one at a time: what the mutant does stays the same."""
    lost, tried = [], 0
    for mutant in load_catalogue().values():
        spoken = {
            name
            for step in mutant.changes
            if isinstance(step, Change)
            for fragment in (step.before, step.after)
            for name in trees.names_in(trees.parsed(fragment))
        }
        for function, code in mutant.codes.items():
            for name in spoken & {*own_locals(trees.tree_of(function))}:
                definition = Renamed(name).visit(copy.deepcopy(trees.tree_of(function)))
                tried += 1
                try:
                    for step in mutant.changes:
                        if step.target is function:
                            step.apply(definition)
                    if steps(changed(function, definition)) != steps(code):
                        lost.append((mutant.name, name, "does something else"))
                except InjectionError as error:
                    lost.append((mutant.name, name, str(error)))
    assert lost == []
    assert tried > 100


def test_no_mutant_is_lost_to_a_formatter() -> None:
    """The library as ast.unparse writes it: without comments, in one line what was in several."""
    for mutant in load_catalogue().values():
        for function in mutant.targets:
            definition = defined(ast.unparse(trees.tree_of(function)))
            for step in mutant.changes:
                if step.target is function:
                    step.apply(definition)
            assert ast.dump(definition) == ast.dump(mutant.trees[function])


def test_a_table_is_read() -> None:
    table = """What it is about.

[lora_lite.variants.lora: lora]
first: is wrong <- a bug @@ LoRA.adapt_output: self.scale => 1.0
second (lora, hra; history; elsewhere some_test): is wrong
    as well <- another @@ lora_lite.spec:zeros: nn.init.zeros_(_a) => @@ LoRA.specs: if a: ;;    b => c
"""
    first, second = read(table)
    assert first == Mutant(
        "first",
        "is wrong",
        "a bug",
        ("lora",),
        (Change("lora_lite.variants.lora:LoRA.adapt_output", "self.scale", "1.0"),),
    )
    assert (second.breaks, second.models, second.applies_to) == (
        "is wrong as well",
        "another",
        ("lora", "hra"),
    )
    assert (second.history, second.by_chance, second.elsewhere) == (True, False, "some_test")
    assert second.changes == (
        Change("lora_lite.spec:zeros", "nn.init.zeros_(_a)", ""),
        Change("lora_lite.variants.lora:LoRA.specs", "if a:\n   b", "c"),
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[lora_lite.variants.lora]", r"wanted \[module: variants\]"),
        ("name: breaks @@ f: a => b", "wanted name: breaks <- models @@ function: before => after"),
        ("name: breaks <- models @@ f: a", "wanted function: before => after, found 'f: a'"),
    ],
)
def test_a_row_that_is_none_is_told_with_its_line(line: str, told: str) -> None:
    with pytest.raises(InjectionError, match=f"here:2: {told}"):
        list(read(f"[m: lora]\n{line}", "here"))


def test_a_row_is_as_wide_as_the_code() -> None:
    """Tables are text, at which no linter looks."""
    for path in (*FOLDER.glob("*.txt"), *PLANTED.glob("*.txt"), KNOWN):
        wide = [line for line in path.read_text(encoding="utf-8").splitlines() if len(line) > 110]
        assert (path.name, wide) == (path.name, [])


def test_what_no_claim_can_see_is_caught_elsewhere() -> None:
    """Equivalent to the claims alone: a test of its own notices it, by its name."""
    elsewhere = {m.name: m.elsewhere for m in load_catalogue().values() if m.equivalent}
    assert set(elsewhere) == set(MUTANTS)
    there = (Path(__file__).parent / "test_distributed.py").read_text("utf-8")
    assert all(f"def {test}(" in there for test in elsewhere.values())
