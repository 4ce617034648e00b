"""What README compares the claims with: tests that pass on right code, and notice what they are there for."""

import pytest

from properties.instruments.own_variant import ROOT
from properties.mutation import load_catalogue
from properties.usual import USUAL, noticed
from strategies.options import BUILT_IN

pytestmark = pytest.mark.instruments


@pytest.mark.parametrize("name", BUILT_IN)
def test_right_code_passes(name: str) -> None:
    for test in USUAL.values():
        test(name)


@pytest.mark.parametrize(
    ("mutant", "by"),
    [
        ("merge_adds_the_update_twice", {"merge"}),
        ("pissa_copy_not_subtracted", {"identity at init, detach"}),
        ("lora_scale_lost", set[str]()),
    ],
)
def test_each_notices_what_it_is_there_for_and_no_more(mutant: str, by: set[str]) -> None:
    found = load_catalogue()[mutant]
    assert {name for name, test in USUAL.items() if noticed(test, found)} == by


def test_readme_counts_the_catalogue_that_there_is() -> None:
    """How many of it each notices, `python -m properties.usual` says in a minute."""
    wanted = len([m for m in load_catalogue().values() if m.equivalent is None])
    told = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"| of {wanted} bugs planted" in told
    assert f"| the claims (`pytest -m mutation`) | {wanted} |" in told
