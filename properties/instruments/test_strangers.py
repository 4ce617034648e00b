"""Right variants that nobody here designed are green: a claim that is red on one is about ours."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings

import lora_lite as ll
from properties.instruments.strangers import NAMES, registered
from properties.instruments.strangers.__main__ import outcome
from properties.judging.assertions import Violation
from properties.judging.claim import load_claims
from properties.judging.outcome import DECLARED, HELD, NOT_APPLICABLE, NOT_JUDGED
from strategies import AdaptedLayer, AdaptedModel, LinearRecipe
from strategies.lifecycles import Attach, Freeze, Lifecycle
from strategies.models import BlockRecipe, NestedRecipe

pytestmark = pytest.mark.instruments

# Of the claims, in turn; all of them are for python -m properties.instruments.strangers.
A_FEW = 6
EXAMPLES = 4


@pytest.fixture
def few() -> Any:
    """A handful of examples, the same each time."""
    before = settings.default
    settings.register_profile("few", settings.get_profile("ci"), max_examples=EXAMPLES, database=None)
    settings.load_profile("few")
    yield
    settings.register_profile("as it was", before)
    settings.load_profile("as it was")


@pytest.mark.parametrize("oracle", [True, False], ids=["with oracle", "without"])
@pytest.mark.parametrize("name", NAMES)
def test_a_right_variant_is_green(name: str, oracle: bool, few: None) -> None:
    quick = [made for made in load_claims().values() if made.cases is not None and not made.slow]
    turn = NAMES.index(name) + (0 if oracle else A_FEW // 2)
    with registered(name, oracle=oracle) as variant:
        found = {made.name: outcome(made, variant, 0) for made in quick[turn % A_FEW :: A_FEW]}
    green = (HELD, DECLARED, NOT_JUDGED, NOT_APPLICABLE)
    assert {claim: why for claim, (state, why) in found.items() if state not in green} == {}


@pytest.mark.parametrize(
    ("name", "claim"),
    [
        ("mora", "forward_in_a_whole_model_agrees_with_the_oracle"),
        ("mora", "a_functional_call_uses_the_parameters_that_it_is_given"),
        ("circulant", "every_field_of_a_config_changes_what_the_adapter_does"),
        ("circulant", "an_encoders_fast_path_does_not_pass_by_an_adapter"),
        ("vector_bank", "every_weight_is_refused_by_its_layer_or_works"),
        ("vector_bank", "codes_are_never_read_as_numbers"),
        ("fourierft", "codes_are_never_read_as_numbers"),
        ("vector_bank", "an_encoders_fast_path_does_not_pass_by_an_adapter"),
        ("vector_bank", "what_is_declared_no_identity_is_none"),
    ],
)
def test_what_was_a_false_alarm_holds(name: str, claim: str, few: None) -> None:
    settings.register_profile("more", settings(), max_examples=20)
    settings.load_profile("more")
    with registered(name) as variant:
        assert outcome(load_claims()[claim], variant, 0) == (HELD, "")


@pytest.mark.parametrize(
    ("name", "tensor", "change", "told"),
    [
        ("vera", "A", {"first_gradient": "zero"}, "A is trained, and the docstring of vera says"),
        ("vera", "d", {"init": lambda d: d.fill_(0.11)}, "d at init is not bit for bit at d_init"),
        ("ssf", "gamma", {"init": lambda gamma: gamma.fill_(1.1)}, "gamma at init is not bit for bit at 1"),
    ],
)
def test_without_an_oracle_the_docstring_tells_what_trains_and_from_where(
    name: str, tensor: str, change: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = load_claims()["tensors_are_what_the_docstring_says"]
    with registered(name, oracle=False) as variant:
        claim.judge(name)
        right = variant.specs

        def wrong(shape: ll.LinearShape, config: Any) -> dict[str, ll.ParamSpec]:
            specs = right(shape, config)
            return specs | {tensor: replace(specs[tensor], **change)}

        monkeypatch.setattr(variant, "specs", staticmethod(wrong))
        with pytest.raises(Violation, match=told):
            claim.judge(name)


@pytest.mark.parametrize("oracle", [True, False], ids=["with oracle", "without"])
def test_what_an_adapter_takes_nothing_of_need_not_learn(oracle: bool) -> None:
    """The weight that a copy stands in for, where its user thaws it."""
    steps = (Attach("full_copy", (("dtype", "float32"),)), Freeze())
    life = Lifecycle(NestedRecipe((BlockRecipe(width=4, inner=6),)), steps=steps)
    with registered("full_copy", oracle=oracle):
        load_claims()["a_life_leaves_every_model_as_it_should_be"].judge(life)


def test_the_gradient_of_an_input_may_cancel_in_an_adapter_of_a_coarser_dtype() -> None:
    """All entries of this update are one number times a cosine, each rounded on its own."""
    model = NestedRecipe((BlockRecipe(width=4, inner=4),), dtype="float64")
    options = (("n", 1), ("factor", 8.0), ("seed", 777), ("dtype", "float32"))
    case = AdaptedModel("fourierft", model, options, trained=True, seed=65535)
    with registered("fourierft"):
        load_claims()["gradients_in_a_whole_model_agree_with_the_oracle"].judge(case)


def test_an_output_may_be_as_coarse_as_the_terms_that_cancel_in_it() -> None:
    """The oracle's cosine of a quarter turn is 6e-17, and that of the transform is 0."""
    linear = LinearRecipe(d_in=1, d_out=8, bias=False, weight="zero_rows")
    options = (("n", 1), ("factor", 8.0), ("seed", 777), ("dtype", "float64"))
    case = AdaptedLayer("fourierft", linear, options, tokens=(), trained=True)
    with registered("fourierft"):
        load_claims()["only_the_result_is_rounded_to_the_base_dtype"].judge(case)


def test_a_gradient_that_float16_holds_is_found_where_what_it_comes_from_is_larger() -> None:
    """Of LoHa the update's own gradient overflows there, and the factors' does not."""
    block = BlockRecipe(width=4, inner=4)
    model = NestedRecipe((block, block, block), dtype="float32", weight="huge")
    case = AdaptedModel("loha", model, (("r", 1), ("alpha", 3.0), ("dtype", "float16")), trained=True)
    with registered("loha"):
        load_claims()["gradients_in_a_whole_model_agree_with_the_oracle"].judge(case)


def test_a_variant_that_declares_no_identity_is_not_held_to_one() -> None:
    with registered("vector_bank") as variant:
        assert load_claims()["identity_at_init"].standing(variant).state == NOT_APPLICABLE


def test_without_an_oracle_merge_identity_and_dtypes_are_judged() -> None:
    """By the variant's own code in float64; what asks for its formula is not."""
    with registered("oft", oracle=False) as variant:
        standing: Callable[[str], str | None] = lambda name: load_claims()[name].standing(variant).state  # noqa: E731
        for name in ("merged_layer_agrees_with_the_oracle", "identity_at_init", "base_keeps_every_bit"):
            assert standing(name) is None
        for name in ("forward_agrees_with_the_oracle", "init_agrees_with_the_oracle"):
            assert standing(name) == NOT_JUDGED
