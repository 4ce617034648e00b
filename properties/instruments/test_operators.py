"""What the generic operators make of code, and what they leave alone."""

import ast
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import lora_lite as ll
from properties.mutation import Mutant, generic, survey
from properties.mutation.generic import distinct, functions_of, generated, mutants_of, sample
from properties.mutation.mutant import plain
from properties.mutation.score import Outcome
from properties.mutation.trees import tree_of

pytestmark = pytest.mark.instruments

MODULE = '''
import contextlib, torch

def plus(a: int, b: int = 1) -> int:
    """A docstring with 1 in it."""
    if a < 0 and b:
        raise ValueError(f"{a + 1} is less than {min(1, 2)}")
    return a + b

def looped(xs):
    total = 0
    for x in xs:
        total += x
    return total

@torch.no_grad()
def frozen(x):
    return x * 2

def careful(x):
    try:
        return [x.detach()[:1], dict(dim=0), not x, -x]
    except ValueError:
        return None
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A user's module, on disk as a user's is."""
    (tmp_path / "written_by_a_user.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import written_by_a_user  # type: ignore[import-not-found]  # written above

    yield written_by_a_user
    del sys.modules["written_by_a_user"]


def made(module: types.ModuleType, function: str) -> set[str]:
    """operator: before => after, of all its mutants that do something."""
    mutants = (m for m in generated([module]) if m.targets[0].__qualname__ == function)
    return {mutant.breaks for mutant in distinct(mutants)}


def test_operators_change_what_they_say(module: types.ModuleType) -> None:
    plus = made(module, "plus")
    assert {
        "arithmetic: a + b => a - b",
        "operand: a + b => a",
        "comparison: a < 0 => a <= 0",
        "boolean: a < 0 and b => a < 0 or b",
        "boolean: a < 0 and b => b",
        "constant: 0 => 1",
        "detached: a => a.detach()",
        "condition: a < 0 => True",
    } <= plus
    looped = made(module, "looped")
    assert "arithmetic: total += x => total -= x" in looped
    assert any(told.startswith("loop not run: for x in xs:") for told in looped)
    assert any(told.startswith("order: for x in xs:") for told in looped)
    assert {
        "unary: not x => x",
        "unary: -x => x",
        "slice: :1 => :",
        "keyword dropped: dict(dim=0) => dict()",
    } | {"call dropped: x.detach() => x"} <= made(module, "careful")
    assert any(told.startswith("except widened: ") for told in made(module, "careful"))


def test_annotations_docstrings_and_messages_are_left_alone(module: types.ModuleType) -> None:
    """Of the first function's 1s and calls; its default too, which does not travel with the code."""
    assert {told.partition(": ")[2] for told in made(module, "plus") if told.startswith("constant")} == {
        "0 => 1",
        "0 => -1",
    }
    assert not [told for told in made(module, "plus") if told.startswith(("call", "argument", "neighbour"))]


def test_a_decorator_is_dropped(module: types.ModuleType) -> None:
    """The wrapper that it makes is a function with a tree of its own."""
    (dropped,) = (m for m in generated([module]) if "context dropped: with ctx_factory()" in m.name)
    x = torch.ones(1, requires_grad=True)
    assert not module.frozen(x).requires_grad
    with dropped.injected():
        assert module.frozen(x).requires_grad
    assert not module.frozen(x).requires_grad


def test_names_are_stable(module: types.ModuleType) -> None:
    """By function, operator and text; a name says nothing of lines, and two of the same text are numbered."""
    names = [mutant.name for mutant in generated([module])]
    assert len(names) == len(set(names))
    assert "written_by_a_user:plus: arithmetic: a + b => a - b" in names
    assert "written_by_a_user:careful: detached: x => x.detach() #2" in names
    assert names == [mutant.name for mutant in generated([module])]


def test_a_sample_is_that_of_its_seed() -> None:
    mutants = list(mutants_of(plain(ll.LoRA.specs), ["lora"]))
    first, again, other = (sample(mutants, seed, 5) for seed in (1, 1, 2))
    assert [m.name for m in first] == [m.name for m in again] != [m.name for m in other]
    assert len({m.effect for m in sample(mutants, 1, 1000)}) == len(sample(mutants, 1, 1000)) < len(mutants)


def test_every_function_of_the_library_is_changed() -> None:
    """Those without a body but a docstring, or an ellipsis, have nothing to change."""
    for module in generic.modules_of(ll):
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        written = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        found = {function.__name__ for function in functions_of(module)}
        inner = {
            n.name
            for f in functions_of(module)
            for n in ast.walk(tree_of(f))
            if isinstance(n, ast.FunctionDef)
        }
        assert written - found - inner == set()


def test_variants_of_a_function_are_those_that_run_it() -> None:
    by_module = {
        module.__name__.rpartition(".")[2]: generic.variants_of(module) for module in generic.modules_of(ll)
    }
    assert by_module["hra"] == ["hra"]
    assert {"antipasto", "dora", "eva", "lora", "pissa"} <= {*by_module["low_rank"]}
    assert {"ia3", "ia3_ff"}.isdisjoint(by_module["low_rank"])
    assert by_module["adapter"] == list(ll.VARIANTS)


def _fate(mutant: Mutant) -> Outcome:
    """Of each kind one, without a claim."""
    if mutant.name == "hangs":
        while True:
            pass
    if mutant.name == "ends":
        raise SystemExit
    return Outcome(mutant.name, "survived")


def test_a_survey_outlives_its_mutants() -> None:
    """One that does not end, and one whose process ends without a word."""
    mutants = [Mutant(name, "", "", (), ()) for name in ("hangs", "lives", "ends")]
    outcomes = {o.mutant: o for o in survey.survey(mutants, _fate, jobs=2, deadline=3.0)}
    assert {name: o.state for name, o in outcomes.items()} == {
        "hangs": "loud",
        "lives": "survived",
        "ends": "loud",
    }
    assert (outcomes["hangs"].detail, outcomes["ends"].detail) == (
        "hangs",
        "the process ended without a word",
    )
