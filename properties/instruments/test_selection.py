"""Which tests a run leaves out."""

import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from properties.audit import first_look
from properties.audit.first_look import LOOKED
from properties.audit.terminal import verdicts
from properties.guests import whole_names
from properties.instruments.sessions import Session
from properties.judging.outcome import BROKEN, HELD, Outcome
from properties.judging.place import PACKAGE
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
    config: Any = SimpleNamespace(getoption=options.get, hook=hook, stash={LOOKED: False})
    pytest_collection_modifyitems(config, items)
    assert items == [item]
    assert deselected == [left]


@pytest.mark.parametrize(
    ("given", "looked"),
    [
        ({"--variant": ["lora"]}, True),
        ({"--variant": ["lora", "hra"]}, True),
        ({}, False),
        ({"--variant": ["lora"], "--whole": True}, False),
        ({"--variant": ["lora"], "--audit": "audit"}, False),
        ({"--variant": ["lora"], "--mutant": "lora_scale_lost"}, False),
        ({"--variant": ["lora"], "--max-examples": 60}, False),
        ({"--variant": ["lora"], "--max-examples": 0}, False),
        ({"--variant": ["lora"], "CI": "true"}, False),
        ({"--variant": ["lora"], "path": "properties/claims"}, True),
        (
            {"--variant": ["lora"], "path": "properties::test_training_on_minilm"},
            False,
        ),
        ({"--variant": ["lora"], "--hypothesis-profile": "nightly"}, False),
        ({"--variant": ["lora"], "-k": "training"}, False),
        ({"--variant": ["lora"], "-m": "not mutation"}, False),
        ({"--variant": ["lora"], "path": "properties/claims/test_training.py"}, False),
    ],
)
def test_a_variant_and_nothing_else_asks_for_a_first_look(
    given: dict[str, Any], looked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", given.get("CI", ""))
    args, root = [given.get("path", "properties")], SimpleNamespace(dir=PACKAGE.parent)
    config: Any = SimpleNamespace(getoption=given.get, args=args, invocation_params=root)
    assert first_look.wanted(config) == looked


def test_a_first_look_leaves_out_what_takes_seconds_and_says_so() -> None:
    words = ("properties", "--variant", "lora", "--collect-only")
    code, told = Session(PACKAGE.parent, words, {**os.environ, "CI": ""}).ended()
    assert code == 0
    assert "a first look: at most 15 examples of a claim" in told
    assert "test_identity_at_init[lora]" in told
    assert "test_training_on_minilm" not in told
    assert "test_agrees_with_peft" not in told


def test_a_first_look_gives_no_verdict_but_of_what_failed() -> None:
    held = Outcome("identity_at_init", "lora", "init", HELD, examples=15, budget=15)
    so_far = r"lora  so far   1 of \d+ claims held on 15 examples; --whole asks all of them"
    assert re.fullmatch(so_far, verdicts([held], "", looked=True))
    assert verdicts([replace(held, state=BROKEN)], "", looked=True).startswith("lora  BUGGY ")


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
