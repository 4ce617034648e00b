"""Tests of the strategies: what they shrink to, that every ingredient is reached, that a repr rebuilds its
recipe.
"""

from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lora_lite as ll
import strategies
from properties.instruments.searching import minimal
from strategies import (
    DTYPES,
    WEIGHT_FAMILIES,
    AdaptedLayer,
    AdaptedModel,
    BlockRecipe,
    LinearRecipe,
    NestedRecipe,
    Qwen3Recipe,
    adapted_layers,
    adapted_models,
    gaussian,
    trained_layers,
    weight,
)
from strategies.options import BUILT_IN, DIMS, own_options

pytestmark = pytest.mark.instruments


def test_a_layer_shrinks_to_the_smallest_that_its_variant_takes(variant: str) -> None:
    case = minimal(trained_layers(variant))
    assert case.linear == LinearRecipe(case.linear.d_in, case.linear.d_out)
    assert max(case.linear.d_in, case.linear.d_out) <= 4
    assert case.option.get("r", 1) <= 4
    assert case.option["dtype"] == "float32"
    assert (case.tokens, case.seed) == ((), 0)


def test_shrinking_keeps_what_the_failure_needs() -> None:
    """A fault in square layers with a bias and rank above 2 shrinks to the smallest such layer."""

    def fault(case: AdaptedLayer) -> bool:
        return case.linear.bias and case.linear.d_in == case.linear.d_out > 3 and case.option["r"] > 2

    case = minimal(adapted_layers("lora"), fault)
    assert (case.linear.d_in, case.linear.d_out, case.option["r"], case.linear.weight) == (
        4,
        4,
        3,
        "gaussian",
    )


@pytest.mark.parametrize("family", WEIGHT_FAMILIES)
def test_every_weight_family_is_reached(family: str) -> None:
    assert minimal(adapted_layers("lora"), lambda case: case.linear.weight == family)


@pytest.mark.parametrize("base", DTYPES)
@pytest.mark.parametrize("adapter", DTYPES)
def test_every_pair_of_dtypes_is_reached(base: str, adapter: str) -> None:
    assert minimal(
        adapted_layers("ia3"), lambda case: case.linear.dtype == base and case.option["dtype"] == adapter
    )


def test_every_option_of_the_variant_is_reached(variant: str) -> None:
    for name, values in own_options(variant).items():
        for value in values:
            assert minimal(adapted_layers(variant), lambda case, n=name, v=value: case.option[n] == v)  # type: ignore[misc]


def test_every_shape_that_hides_bugs_is_reached(variant: str) -> None:
    """Wide, tall and square, with and without bias, an empty batch, and where there is one a rank that is not
    alpha.
    """
    cases = adapted_layers(variant)
    for shape in (
        lambda c: c.linear.d_in > c.linear.d_out,
        lambda c: c.linear.d_in < c.linear.d_out,
        lambda c: c.linear.d_in == c.linear.d_out,
        lambda c: c.linear.bias,
        lambda c: not c.linear.bias,
        lambda c: c.tokens == (0,),
        lambda c: c.option.get("alpha", 0) != c.option.get("r", 1),
        lambda c: c.linear.d_in == max(DIMS),
    ):
        assert minimal(cases, shape)


def test_every_architecture_is_reached() -> None:
    cases = adapted_models("ia3")
    for architecture in (
        lambda c: isinstance(c.model, NestedRecipe) and len(c.model.blocks) == 3,
        lambda c: isinstance(c.model, NestedRecipe) and c.model.blocks[0].keyword,
        lambda c: isinstance(c.model, NestedRecipe) and c.model.container == "h",
        lambda c: isinstance(c.model, Qwen3Recipe) and c.model.tied,
        lambda c: isinstance(c.model, Qwen3Recipe) and c.model.layers == 3 and c.model.kv_heads == 2,
    ):
        assert minimal(cases, architecture)


@given(st.one_of(*(adapted_layers(v) for v in ll.VARIANTS), adapted_models("lora")))
@settings(max_examples=100)
def test_a_repr_rebuilds_its_recipe(case: AdaptedLayer | AdaptedModel) -> None:
    names = {
        c.__name__: c
        for c in (AdaptedLayer, AdaptedModel, LinearRecipe, NestedRecipe, BlockRecipe, Qwen3Recipe)
    }
    assert eval(repr(case), names) == case
    assert "Tensor" not in repr(asdict(case))


@given(st.one_of(*(adapted_layers(v) for v in ll.VARIANTS)))
@settings(max_examples=100)
def test_a_recipe_builds_the_same_every_time(case: AdaptedLayer) -> None:
    for first, second in zip(case.build().parameters(), case.build().parameters(), strict=True):
        assert torch.equal(first, second)
    assert torch.equal(case.x(), case.x())
    assert case.x().dtype == DTYPES[case.linear.dtype]


@given(st.integers(0, 2**16), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=50)
def test_a_pool_is_stable_under_slicing(seed: int, few: int, many: int) -> None:
    """Shrinking a dimension keeps the numbers: torch.randn(n, generator=g) would not."""
    shorter, longer = sorted((few, many))
    assert torch.equal(gaussian(seed, "x", (longer,))[:shorter], gaussian(seed, "x", (shorter,)))
    assert not torch.equal(gaussian(seed, "x", (40,)), gaussian(seed, "y", (40,)))


@given(st.lists(st.integers(0, 2**16 - 1), min_size=2, max_size=4, unique=True))
@settings(max_examples=50)
def test_another_seed_is_other_numbers(seeds: list[int]) -> None:
    """torch's generator on the CPU looks at the low 32 bits of its seed alone."""
    drawn = {tuple(gaussian(seed, role, (8,)).tolist()) for seed in seeds for role in ("x", "weight")}
    assert len(drawn) == 2 * len(seeds)


@pytest.mark.parametrize("family", WEIGHT_FAMILIES)
@given(d_out=st.sampled_from(DIMS), d_in=st.sampled_from(DIMS))
@settings(max_examples=30)
def test_a_base_weight_is_finite_and_not_zero(family: str, d_out: int, d_in: int) -> None:
    W = weight(family, 0, d_out, d_in, torch.float32)
    assert W.shape == (d_out, d_in)
    assert torch.isfinite(W).all()
    assert W.any()


def test_what_the_families_promise() -> None:
    W = {family: weight(family, 0, 6, 8, torch.float32) for family in WEIGHT_FAMILIES}
    singular = {family: torch.linalg.svdvals(w) for family, w in W.items()}
    assert int((singular["low_rank"] > 1e-6).sum()) == 3
    torch.testing.assert_close(singular["orthogonal"], torch.ones(6))
    torch.testing.assert_close(singular["repeated_singular_values"], torch.tensor([2.0] * 3 + [0.5] * 3))
    assert (W["zero_rows"].norm(dim=1) == 0).any()
    assert (W["zero_columns"].norm(dim=0) == 0).any()
    columns = W["outlier_column"].norm(dim=0)
    assert columns.max() > 10 * columns.median()
    square = weight("uneven", 0, 6, 6, torch.float32)
    assert (square.norm(dim=0) / square.norm(dim=1)).max() > 2


def test_all_names_are_exported() -> None:
    assert all(hasattr(strategies, name) for name in strategies.__all__)


def test_mutants_of_all_variants_are_of_the_built_in_ones() -> None:
    """A user's variant has no oracle: what only an oracle sees would survive there."""
    low_rank, others = (
        {"lora", "pissa", "dora", "delora", "eva", "antipasto"},
        {"ia3", "ia3_ff", "hra", "full"},
    )
    assert set(BUILT_IN) == low_rank | others
