"""Which tests a run leaves out."""

import pytest

from properties.plugin import is_idle

pytestmark = pytest.mark.instruments


@pytest.mark.parametrize(
    ("marks", "given", "idle"),
    [
        ({"instruments"}, {}, False),
        ({"instruments"}, {"variants": ["lora"]}, True),
        ({"instruments"}, {"variants": ["lora"], "asked_for": "instruments"}, False),
        ({"instruments", "of a variant"}, {"variants": ["lora"]}, False),
        ({"instruments", "mutation"}, {"variants": ["lora"]}, False),
        ({"slow"}, {"variants": ["lora"]}, False),
        ({"instruments", "of a variant"}, {"mutant": "lora_scale_lost"}, True),
        ({"instruments", "mutation"}, {"mutant": "lora_scale_lost", "asked_for": "instruments"}, True),
        ({"slow"}, {"mutant": "lora_scale_lost"}, False),
    ],
)
def test_tests_of_the_suite_itself_are_left_out(marks: set[str], given: dict[str, object], idle: bool) -> None:
    options: dict[str, object] = {"mutant": None, "variants": None, "asked_for": "", **given}
    assert is_idle(marks, **options) == idle  # type: ignore[arg-type]  # as pytest has them
