"""A fixture as a test of fixtures wants it, and what a run was told about recording."""

from dataclasses import replace
from typing import Any

import pytest

from properties.regressions.fixture import Fixture
from strategies import AdaptedLayer, LinearRecipe
from strategies.recipes import to_json

# The smallest layer in which the order of the reflections can be seen.
CASE = AdaptedLayer("hra", LinearRecipe(2, 1), (("r", 2), ("dtype", "float32")), tokens=(), trained=True)
FOUND = {"test": "by hand", "profile": "dev", "seed": None, "examples": 1}


def fixture_of_hra(**changes: Any) -> Fixture:
    fixture = Fixture(
        "forward_agrees_with_the_oracle", "hra", to_json(CASE), "the output of 0 is the oracle's", FOUND
    )
    return replace(fixture, **changes)


def set_options(
    monkeypatch: pytest.MonkeyPatch, config: pytest.Config, *, CI: str = "", **given: Any
) -> None:
    """What the run was told about recording: this and nothing else."""
    monkeypatch.setenv("CI", CI)
    for name, value in {
        "record": None,
        "no_record": False,
        "mutant": None,
        "variant_module": None,
        **given,
    }.items():
        monkeypatch.setattr(config.option, name, value)
