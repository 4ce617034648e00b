"""Which tests a run leaves out."""

import pytest

from properties.guests import whole_names
from properties.plugin import is_idle

pytestmark = pytest.mark.instruments


@pytest.mark.parametrize(
    ("marks", "about_a_variant", "given", "idle"),
    [
        ({"instruments"}, False, {}, False),
        ({"instruments"}, False, {"variants": ["lora"]}, True),
        ({"instruments"}, False, {"variants": ["lora"], "asked_for": "instruments"}, False),
        ({"instruments"}, True, {"variants": ["lora"]}, True),
        ({"instruments", "mutation"}, True, {"variants": ["lora"]}, True),
        ({"instruments", "mutation"}, True, {"variants": ["lora"], "asked_for": "mutation"}, False),
        ({"slow"}, True, {"variants": ["lora"]}, False),
        ({"slow"}, False, {"variants": ["lora"]}, True),
        (set(), False, {}, False),
        ({"instruments"}, True, {"mutant": "lora_scale_lost"}, True),
        ({"instruments", "mutation"}, True, {"mutant": "lora_scale_lost", "asked_for": "instruments"}, True),
        ({"slow"}, False, {"mutant": "lora_scale_lost"}, False),
    ],
)
def test_what_says_nothing_of_what_is_asked_is_left_out(
    marks: set[str], about_a_variant: bool, given: dict[str, object], idle: bool
) -> None:
    options: dict[str, object] = {"mutant": None, "variants": None, "asked_for": "", **given}
    assert is_idle(marks, about_a_variant, **options) == idle  # type: ignore[arg-type]  # as pytest has them


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("", ""),
        ("vera", "([vera] or [vera-)"),
        ("not Vera and (file or boft)", "not ([Vera] or [Vera-) and (file or ([boft] or [boft-))"),
        ("several or vera-forward-1f0c9a3e or [vera]", "several or vera-forward-1f0c9a3e or [vera]"),
    ],
)
def test_a_users_variant_is_chosen_by_its_whole_name(given: str, meant: str) -> None:
    assert whole_names(given, ["vera", "boft"]) == meant
