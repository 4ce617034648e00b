"""Recipes to JSON and back, and the random numbers behind them."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import lora_lite as ll
from properties.instruments.sample_fixtures import CASE
from properties.judging.claim import load_claims
from strategies import gaussian
from strategies.random_numbers import recorded, served
from strategies.recipes import RecipeError, from_json, pasteable, pasted, to_json

pytestmark = pytest.mark.instruments


def cases_of(variant: str) -> st.SearchStrategy[Any]:
    """A case of any property that draws cases of this variant."""
    about = [p for p in load_claims().values() if p.standing(ll.VARIANTS[variant]).state is None]
    return st.sampled_from(about).flatmap(lambda p: p.cases(variant))  # type: ignore[misc]  # None was left out


def test_every_case_comes_back_from_json_as_it_was(variant: str) -> None:
    """Whatever a claim draws can be a fixture, and can be pasted; numbers keep their type."""

    @given(cases_of(variant))
    @settings(max_examples=60, database=None, phases=[Phase.generate])
    def check(case: Any) -> None:
        back = from_json(json.loads(json.dumps(to_json(case), allow_nan=False)))
        assert (back, repr(back)) == (case, repr(case))
        assert pasted(pasteable(case)) == case

    check()


@pytest.mark.parametrize("value", [torch.float32, [1], float("nan"), {"r": 1}, st.none()])
def test_what_is_no_recipe_is_not_written(value: Any) -> None:
    with pytest.raises(RecipeError, match="A recipe holds"):
        to_json(replace(CASE, options=(("r", value),)))


def test_a_field_added_later_has_its_default() -> None:
    recipe = to_json(CASE)
    del recipe["calibrated"], recipe["linear"]["bias"]
    assert from_json(recipe) == CASE


def test_recorded_numbers_are_served_and_others_drawn() -> None:
    fresh = gaussian(1, "x", (3,))
    with recorded() as kept:
        gaussian(0, "x", (3,))
        torch.randn(2)
    changed = {name: numbers + 1 for name, numbers in kept.items()}
    with served(changed):
        assert torch.equal(gaussian(0, "x", (2,)), changed["gaussian 0 x of 1024"][:2])
        assert torch.equal(torch.randn(2), changed["aten::randn (2,) 1"])
        more: tuple[Callable[[], torch.Tensor], ...] = (
            partial(gaussian, 0, "x", (4,)),
            partial(gaussian, 1, "x", (3,)),
            partial(torch.randn, 2),
        )
        # A failure ends the recording, and what comes after it is drawn as ever.
        for draw in more:
            assert draw().isfinite().all()
        assert torch.equal(gaussian(1, "x", (3,)), fresh)
    assert not torch.equal(gaussian(0, "x", (2,)), changed["gaussian 0 x of 1024"][:2])


def test_numbers_of_a_generator_of_ones_own_are_no_part_of_a_case() -> None:
    with recorded() as kept:
        torch.randn(2, generator=torch.Generator().manual_seed(0))
    assert not kept
