"""A declared stop of a gradient is compared with what it means; what compares nothing is not judged."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings
from torch import Tensor

import lora_lite as ll
from properties.claims.any import test_learning
from properties.guests import unfounded_laws
from properties.judging import layer_function, under_pytest
from properties.judging.assertions import Violation
from properties.judging.claim import Claim, load_claims, load_claims_of_any
from properties.judging.outcome import Meter, NothingComparedError
from properties.subjects.living import library

pytestmark = pytest.mark.instruments

LAWS, GRADIENT = "declared_laws_hold", "the_gradient_is_that_of_the_output"
FEW = settings(max_examples=30, database=None, derandomize=True)


def _twice(self: ll.DoRA, x: Tensor, y: Tensor, layer: Any) -> Tensor:
    """The same output; the gradient of A is twice what it should be."""
    A = 2 * self.A - self.A.detach()
    ratio = self.m / self.row_norms(layer)
    bias = 0 if layer.bias is None else layer.bias
    twice: Tensor = ratio * (y - bias + self.scale * x @ A.mT @ self.B.mT) + bias
    return twice


def _through(self: ll.DoRA, layer: Any) -> Tensor:
    """n, and its gradient."""
    n: Tensor = (layer.weight + self.scale * self.B @ self.A).norm(dim=1)
    return n


@pytest.mark.parametrize("claim", [LAWS, GRADIENT])
@pytest.mark.parametrize("wrong", [("adapt_output", _twice), ("row_norms", _through)], ids=lambda w: w[0])
def test_another_gradient_than_the_declared_one_is_red(
    claim: str, wrong: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ll.DoRA, *wrong)
    with pytest.raises(Violation, match=r"the gradient of [AB] .*is not that of"):
        load_claims()[claim].run("dora", FEW)


@pytest.mark.parametrize("claim", [LAWS, GRADIENT])
def test_a_stop_that_nobody_names_is_shown_as_declared(claim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ll.DoRA, "laws", {**ll.DoRA.laws, "stops_before": ("A", "B")})
    meter = load_claims()[claim].run("dora", FEW)
    assert "stops, and no method is named" in meter.declared


@pytest.mark.parametrize("claim", [LAWS, GRADIENT])
def test_a_stop_that_is_compared_is_held(claim: str) -> None:
    assert load_claims()[claim].run("dora", FEW).declared == ""


def test_a_stop_at_what_the_output_does_not_ask_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ll.LoRA, "laws", {"stops_before": {"extra_repr": ("A",)}})
    with pytest.raises(Violation, match="declared to stop at extra_repr, which the output does not ask"):
        load_claims()[LAWS].run("lora", FEW)


def test_a_stop_at_a_method_that_there_is_not_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ll.DoRA, "laws", {"stops_before": {"row_norm": ("A",)}})
    (found,) = unfounded_laws(ll.DoRA)
    assert "found 'row_norm' in 'stops_before', wanted a method of dora (the nearest is 'row_norms')" in found


@pytest.mark.parametrize("method", ["peft:lora+use_dora=True", "peft:oft+coft=True"])
def test_a_documented_stop_of_a_library_is_compared(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing := library("peft").missing():
        pytest.skip(f"not judged: {missing}")
    slope = test_learning._slope
    monkeypatch.setattr(test_learning, "_slope", lambda *given: 1.01 * slope(*given))
    with pytest.raises(Violation, match="the gradient of the input is not that of"):
        load_claims_of_any()["gradients_are_those_of_the_forward"].run(method, FEW)


@pytest.mark.parametrize("laws", [{"keeps": ()}, {"linear_in": ("A",), "rank": 100}], ids=["none", "empty"])
def test_a_law_that_compares_no_number_is_not_judged(
    laws: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would count as held: nothing is drawn that it is about, or what it looks at is empty."""
    monkeypatch.setattr(ll.LoRA, "laws", laws)
    meter = Meter()
    with pytest.raises(NothingComparedError, match=f"no number was compared of the law {[*laws][-1]}, in"):
        load_claims()[LAWS].run("lora", FEW, meter)
    assert meter.examples


def test_a_law_of_which_every_case_is_refused_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other rank is taken, so that there is no component more."""
    monkeypatch.setattr(layer_function, "_takes", lambda *given: False)
    with pytest.raises(NothingComparedError, match=r"the law proportional_to, the law one_more_zero"):
        load_claims()[LAWS].run("lora", FEW)


def test_more_is_drawn_where_few_had_nothing_to_compare(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    budgets: list[int] = []

    def run(claim: Claim, variant: str, budget: settings, meter: Meter) -> Meter:
        budgets.append(budget.max_examples)
        if len(budgets) == 1:
            raise NothingComparedError("few")
        return meter

    monkeypatch.setattr(Claim, "run", run)
    monkeypatch.setattr(under_pytest, "confirm", lambda *given: "")
    with suppress(pytest.skip.Exception):
        under_pytest.run_as_test(load_claims()[LAWS], "lora", request)
    # Nothing was judged of lora here.
    request.node.user_properties.clear()
    assert budgets == [settings().max_examples, under_pytest.SELDOM * settings().max_examples]
