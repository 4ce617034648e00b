"""Right variants that nobody here designed are green: a claim that is red on one is about ours."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

from properties.instruments.strangers import NAMES, registered
from properties.instruments.strangers.__main__ import outcome
from properties.judging.claim import load_claims
from properties.judging.outcome import DECLARED, HELD, NOT_APPLICABLE, NOT_JUDGED

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


def test_without_an_oracle_merge_identity_and_dtypes_are_judged() -> None:
    """By the variant's own code in float64; what asks for its formula is not."""
    with registered("oft", oracle=False) as variant:
        standing: Callable[[str], str | None] = lambda name: load_claims()[name].standing(variant).state  # noqa: E731
        for name in ("merged_layer_agrees_with_the_oracle", "identity_at_init", "base_keeps_every_bit"):
            assert standing(name) is None
        for name in ("forward_agrees_with_the_oracle", "init_agrees_with_the_oracle"):
            assert standing(name) == NOT_JUDGED
