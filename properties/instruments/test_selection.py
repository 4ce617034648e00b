"""Which tests a run leaves out."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from properties.guests import whole_names
from properties.plugin import is_idle, pytest_collection_modifyitems

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


@pytest.mark.parametrize("name", ["variant", "method", "regression"])
def test_what_is_about_a_variant_stays_where_variants_are_asked_for(name: str) -> None:
    """A claim about a variant, or about a method of another library, and a kept failure."""
    here: dict[str, Any] = {"iter_markers": list, "function": None, "path": Path(__file__)}
    item: Any = SimpleNamespace(callspec=SimpleNamespace(params={name: "oft"}), **here)
    left: Any = SimpleNamespace(callspec=SimpleNamespace(params={}), **here)
    options = {"--mutant": None, "--variant": ["oft"], "-m": ""}
    deselected: list[Any] = []
    hook = SimpleNamespace(pytest_deselected=lambda items: deselected.extend(items))
    items = [left, item]
    pytest_collection_modifyitems(SimpleNamespace(getoption=options.get, hook=hook), items)  # type: ignore[arg-type]  # all that it reads
    assert items == [item]
    assert deselected == [left]


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
