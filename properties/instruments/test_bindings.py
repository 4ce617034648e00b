"""A binding is complete or its method is not judged, by name; and what it names is there."""

from dataclasses import replace
from typing import Any

import pytest

from properties.judging import bound_oracle
from properties.judging.bound_oracle import Bound
from properties.judging.claim import load_claims_of_any
from properties.judging.outcome import NOT_JUDGED, NotJudgedError
from properties.oracles.field import FORMULAS
from properties.subjects.bindings import BINDINGS, binding_of
from properties.subjects.bindings.binding import called
from properties.subjects.library import LibraryCase
from properties.subjects.living import library, methods_of
from strategies import LinearRecipe

pytestmark = pytest.mark.instruments

CASE = LibraryCase("peft:vera", LinearRecipe(4, 6), (("r", 2),))


def _with(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
    wrong = replace(BINDINGS["peft:vera"], **changed)
    monkeypatch.setattr(bound_oracle, "binding_of", lambda full: wrong)


def test_a_trained_tensor_that_is_not_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    _with(
        monkeypatch, symbols=called(A="vera_A.default", B="vera_B.default", lambda_b="vera_lambda_b.default")
    )
    with pytest.raises(NotJudgedError, match=r"no formula yet: peft:vera has .*vera_lambda_d.default, which"):
        Bound(CASE)


def test_a_setting_that_is_not_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, options=lambda given: {"r": given.r, "init": given.init_weights})
    with pytest.raises(NotJudgedError, match="no formula yet: peft:vera has d_initial, which is not bound"):
        Bound(CASE)


def test_a_method_without_a_formula_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that a new release brings."""
    monkeypatch.delitem(BINDINGS, "peft:vera")
    standing = load_claims_of_any()["the_output_is_the_formulas"].standing_of("peft:vera")
    assert standing.state == NOT_JUDGED
    assert standing.why == "no formula yet: bind peft:vera in subjects/bindings"


def test_a_switch_is_bound_with_its_method() -> None:
    assert binding_of("peft:vera+init_weights=False") is BINDINGS["peft:vera"]


@pytest.mark.parametrize("method", BINDINGS)
def test_what_is_bound_is_there(method: str) -> None:
    """The oracle, and the method in the library as it is installed."""
    assert BINDINGS[method].oracle in FORMULAS
    name = method.partition(":")[0]
    if missing := library(name).missing():
        pytest.skip(f"not judged: {missing}")
    assert method in methods_of(name)


def test_every_formula_is_bound() -> None:
    """Of lora_lite's own nine, those that no other library has are not."""
    assert {*FORMULAS} - {binding.oracle for binding in BINDINGS.values()} <= {"lora", "hra", "eva", "ia3_ff"}
