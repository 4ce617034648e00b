"""A wrong declaration of a law is red, each kind of law by itself; and what holds is proposed."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings

import lora_lite as ll
from properties.guests import unfounded_laws
from properties.instruments.strangers import FURTHER, NAMES, registered
from properties.judging.assertions import Violation
from properties.judging.claim import load_claims
from properties.judging.laws import KINDS, assert_laws
from properties.judging.layer_function import LayerFunction, function_of
from properties.judging.needs import NEEDS
from properties.judging.proposals import proposed, standing
from properties.mutation import load_catalogue
from properties.subjects.attaching import attach
from strategies import AdaptedLayer, LinearRecipe

pytestmark = pytest.mark.instruments

CLAIM = "declared_laws_hold"
FEW = settings(max_examples=40, database=None, derandomize=True)
# One value of a setting is drawn in a third of them.
MANY = settings(FEW, max_examples=100)
# Of each kind, a variant of which it does not hold.
WRONG: dict[str, tuple[str, Any]] = {
    "proportional_to": ("dora", ("alpha",)),
    "linear_in": ("dora", ("m",)),
    "affine_in": ("delora", ("A",)),
    "any_size": ("lora", ("A",)),
    "any_order_of": ("hra", {"U": 0}),
    "one_more_zero": ("delora", {"A": 0, "B": 1, "A0": 0, "B0": 1}),
    "unchanged_by": ("lora", {"A": 1}),
    "inputs": ("lora", {}),
    "outputs": ("lora", {}),
    "rank": ("pissa", 1),
    "norm_within": ("full", ("b",)),
    "trains": ("lora", ("A",)),
    "norm_is": ("antipasto", {"S": ("rot",)}),
    "keeps": ("hra", ("column norms",)),
    "norms_are": ("delora", {"columns": "w"}),
    "apart_from_the_base": ("dora", True),
    "in_place_of_the_base": ("lora", True),
    "sees_the_output_alone": ("dora", True),
    "repeated": ("hra", {"U": 0}),
    "bias_apart": ("ia3", True),
    "starts": ("lora", {"B": 1.0}),
    "starts_as_svd": ("lora", ("B", "A")),
    "stops_before": ("lora", ("A", "B")),
    "composed_of": ("dora", {"A": 0, "B": 1}),
}


def layer(variant: str, **changed: Any) -> LayerFunction:
    """A trained one on 5 → 7, of rank 4 where it has one."""
    linear = LinearRecipe(5, 7, bias=True, dtype="float64")
    ranked = () if "r" in ll.VARIANTS[variant].config_class.unused else (("r", 4),)
    options = (*ranked, ("dtype", "float64"))
    case = AdaptedLayer(variant, linear, options, trained=True, calibrated=variant == "eva")
    return replace(function_of(attach(case)), **changed)


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_law_is_red(kind: str) -> None:
    variant, value = WRONG[kind]
    f = layer(variant)
    if kind == "norm_within":
        f = f.but({"b": 1e-3 * f.tensors["b"]})
    with pytest.raises(Violation, match=rf"declared: {kind} "):
        assert_laws(f, {kind: value}, 0)


def test_every_kind_is_seen_red() -> None:
    assert set(WRONG) == {"unchanged_by", *KINDS}


def test_a_wrong_declaration_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ll.DoRA, "laws", {**ll.DoRA.laws, "rank": 1})
    with pytest.raises(Violation, match=r"the . largest .declared: rank 1"):
        load_claims()[CLAIM].run("dora", FEW)


def test_a_wrong_law_of_one_value_of_a_setting_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another value is drawn it says nothing."""
    turned = {"rotate_basis": {"U": {"keeps": {"row angles": ("delta_s",)}}}}
    monkeypatch.setattr(ll.AntiPaSTO, "laws", {"where": turned})
    with pytest.raises(Violation, match=r"the row angles .* where rotate_basis is U\) is not what they were"):
        load_claims()[CLAIM].run("antipasto", MANY)
    assert_laws(layer("antipasto"), {"where": turned}, 0)


def test_a_basis_turned_for_the_other_is_seen_by_laws() -> None:
    for name in ("antipasto_turns_V_where_U_is_wanted", "antipasto_turns_U_where_V_is_wanted"):
        with load_catalogue()[name].injected(), pytest.raises(Violation, match="where rotate_basis is"):
            load_claims()[CLAIM].run("antipasto", MANY)


def test_a_floor_where_there_should_be_none_is_seen_by_a_law() -> None:
    floored = load_catalogue()["delora_floor_in_every_mode"].injected()
    with floored, pytest.raises(Violation, match=r"times 9e-10 .*declared: any_size"):
        load_claims()[CLAIM].run("delora", MANY)


def test_a_law_that_there_is_not_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ll.LoRA, "laws", {"proportionl_to": ("alpha",)})
    with pytest.raises(Violation, match="the law 'proportionl_to' is declared, wanted one of unchanged_by"):
        load_claims()[CLAIM].run("lora", FEW)


@pytest.mark.parametrize(
    ("laws", "told"),
    [
        (
            {"outputs": {"B": 0, "bb": 0}},
            "found 'bb' in 'outputs', wanted a tensor of lora (the nearest is 'B')",
        ),
        ({"unchanged_by": ({"A": 1}, {"A0": 1})}, "found 'A0' in 'unchanged_by', wanted a tensor of lora"),
        ({"keeps": {"row norms": ("a",)}}, "found 'a' in 'keeps', wanted a tensor of lora"),
        ({"norms_are": {"rows": "m"}}, "found 'm' in 'norms_are', wanted a tensor of lora"),
        ({"norm_is": {"A": ("rot",)}}, "found 'rot' in 'norm_is', wanted a tensor of lora"),
        ({"proportional_to": ("alfa",)}, "found 'alfa' in 'proportional_to', wanted a setting of lora"),
        ({"where": {"r": {2: {"linear_in": ("C",)}}}}, "found 'C' in 'linear_in', wanted a tensor of lora"),
        ({"where": {"q": {2: {}}}}, "found 'q' in 'where', wanted a setting of lora"),
        ({"linear_on": ("A",)}, "found 'linear_on', wanted a law (the nearest is 'linear_in')"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_law_of_what_the_variant_does_not_have_is_told(
    laws: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be passed over, and the law be another one: a wrong formula by a bound of 1e12."""
    monkeypatch.setattr(ll.LoRA, "laws", laws)
    (found,) = unfounded_laws(ll.LoRA)
    assert f"LoRA.laws: {told}" in found


@pytest.mark.parametrize("name", [*ll.VARIANTS, *NAMES, *FURTHER])
def test_every_law_of_ours_and_of_strangers_is_of_what_they_have(name: str) -> None:
    """With some of their settings, or with a bias: pissa's A0, full's b."""
    with registered(name) if name not in ll.VARIANTS else nullcontext(ll.VARIANTS[name]) as variant:
        assert not list(unfounded_laws(variant))


def test_who_declares_none_is_not_judged_by_them() -> None:
    with registered("ssf") as variant:
        assert NEEDS["laws"].missing(variant) == "ssf declares no laws"
        assert NEEDS["laws"].by_nature


def test_what_holds_and_is_not_declared_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of lora, which declares all of it, nothing; of lora without a declaration, that."""
    standing.cache_clear()
    assert proposed("lora") == []
    monkeypatch.setattr(ll.LoRA, "laws", {"linear_in": ("A",)})
    found = "\n".join(proposed("lora"))
    for law in ("\"linear_in\": ('B',)", "\"inputs\": {'A': 1}", '"rank": 1', '"apart_from_the_base": True'):
        assert law in found
    assert "('A',)" not in found
    assert "sees_the_output" not in found or "holds in" in found
