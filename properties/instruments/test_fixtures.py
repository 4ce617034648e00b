"""Fixtures travel: written whole under a stable name, read back as the same recipe, refused where they do not
fit.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.database import ExampleDatabase

from properties.instruments.sample_fixtures import CASE, FOUND, fixture_of_hra, set_options
from properties.judging.profiles import check_database, example_database
from properties.mutation import load_catalogue
from properties.regressions.fixture import (
    HERE,
    FixtureError,
    read,
    schema,
    write,
)
from properties.regressions.record import ASKED, record_folder, replay_command, replayed_folders
from properties.regressions.replay import replay
from strategies.recipes import to_json

pytestmark = pytest.mark.instruments

REVERSED = load_catalogue()["hra_reflections_in_reverse"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"kind": "NoSuchLayer"}, "There is no recipe NoSuchLayer any more"),
        ({"kind": "properties.gone.Layer"}, "There is no recipe properties.gone.Layer any more"),
        ({"kind": "gaussian"}, "gaussian is no recipe"),
        ({"width": 3}, "no longer takes .* its fields are variant, linear"),
        ({"linear": {"kind": "LinearRecipe", "d_in": 2}}, "d_out.*; its fields are d_in, d_out"),
    ],
    ids=["kind", "module", "no class", "field", "missing"],
)
def test_a_recipe_that_no_longer_builds_is_an_error(change: dict[str, Any], match: str) -> None:
    recipe = {**to_json(CASE), **change}
    with pytest.raises(FixtureError, match=rf"its recipe no longer builds\. .*{match}"):
        replay(fixture_of_hra(recipe=recipe), Path("here.json"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"variant": "gone"}, "there is no variant gone, known: "),
        ({"claim": "gone"}, "there is no claim gone that draws cases of hra"),
        ({"variant": "dora"}, "its recipe is of hra, the fixture of dora"),
        ({"claim": "detach_without_an_adapter_is_refused"}, "that draws cases of hra"),
        ({"claim": "zero_rows_of_hra_are_no_reflection", "variant": "lora"}, "that draws cases of lora"),
    ],
    ids=["variant", "claim", "recipe", "fact", "does not apply"],
)
def test_a_fixture_about_nothing_is_an_error(change: dict[str, Any], match: str) -> None:
    with pytest.raises(FixtureError, match=match):
        replay(fixture_of_hra(**change), Path("here.json"))


def test_the_same_failure_has_the_same_name(tmp_path: Path) -> None:
    """Whoever found it, with whatever message and versions; another recipe has another."""
    first = write(fixture_of_hra(), tmp_path)
    assert re.fullmatch(r"forward_agrees_with_the_oracle-hra-[0-9a-f]{8}\.json", first.name)
    again = fixture_of_hra(
        error="worded differently",
        found={**FOUND, "examples": 40},
        versions={**fixture_of_hra().versions, "torch": "9.9"},
    )
    assert write(again, tmp_path) == first
    assert read(first) == fixture_of_hra()
    assert write(fixture_of_hra(recipe=to_json(replace(CASE, seed=1))), tmp_path) != first


def test_a_known_failure_stays_marked_when_it_is_found_again(tmp_path: Path) -> None:
    known = fixture_of_hra(expect="fail", reason="being worked on", link="https://example.org/1")
    path = write(known, tmp_path)
    assert read(write(fixture_of_hra(), tmp_path)) == known
    path.write_text(path.read_text()[:100])
    assert read(write(fixture_of_hra(), tmp_path)) == fixture_of_hra()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda text: text[:200], "not readable as JSON"),
        (lambda text: text.replace('"expect": "pass"', '"expect": "maybe"'), "expect: 'maybe' is not one of"),
        (
            lambda text: text.replace('"expect": "pass"', '"expect": "fail"'),
            "'reason' is a required property",
        ),
        (lambda text: text.replace('"error"', '"eror"'), "'eror' was unexpected|'error' is a required"),
        (
            lambda text: text.replace('"seed": 0', '"seed": 1'),
            "its content is that of .* Rename it, or restore",
        ),
    ],
    ids=["cut", "expect", "no reason", "field", "edited"],
)
def test_a_damaged_fixture_is_an_error(change: Any, match: str, tmp_path: Path) -> None:
    path = write(fixture_of_hra(), tmp_path)
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(FixtureError, match=match):
        read(path)


def test_what_a_hand_left_half_done_is_not_written_over(tmp_path: Path) -> None:
    path = write(fixture_of_hra(), tmp_path)
    half = path.read_text().replace('"expect": "pass"', '"expect": "fail", "reason": "being worked on"')
    path.write_text(half)
    assert write(fixture_of_hra(), tmp_path) == path
    assert path.read_text() == half


@pytest.mark.parametrize(
    "change", [{"variant": "my-lora"}, {"claim": "SVD_is_exact"}, {"error": 'a "list": [\n  1 ]b'}]
)
def test_what_is_written_is_read(change: dict[str, Any], tmp_path: Path) -> None:
    recipe = {"kind": "AdaptedLayer", "names": ["a ]b", 'c"[', "d  e"]}
    fixture = fixture_of_hra(recipe=recipe, **change)
    assert read(write(fixture, tmp_path)) == fixture


def test_the_schema_is_one() -> None:
    schema().check_schema(schema().schema)


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ({}, HERE),
        ({"CI": "true"}, Path("artifacts/regressions")),
        ({"variant_module": ["mine"]}, Path("regressions")),
        ({"variant_module": ["mine"], "CI": "true"}, Path("artifacts/regressions")),
        ({"mutant": "kaiming_normal"}, None),
        ({"mutant": "kaiming_normal", "record": Path("there")}, Path("there")),
        ({"CI": "true", "record": Path("there")}, Path("there")),
        ({"record": Path("there"), "no_record": True}, None),
    ],
    ids=str,
)
def test_failures_are_written_where_they_are_of_use(
    options: dict[str, Any], folder: Path | None, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_options(monkeypatch, pytestconfig, **options)
    assert record_folder(pytestconfig) == folder
    own = [Path("regressions")] if "variant_module" in options else []
    assert replayed_folders(pytestconfig) == list(dict.fromkeys([HERE, *own, *filter(None, [folder])]))


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        ([], "PYTHONPATH=there pytest --variant-module mine --record r -k it"),
        (["."], "pytest --record r -k it"),
        (["my adapters"], "pytest 'my adapters' --record r -k it"),
        ([".", "below"], "pytest . below --record r -k it"),
    ],
    ids=str,
)
def test_a_fixture_of_a_folder_with_a_conftest_is_replayed_from_it(
    folders: list[str], told: str, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is not named, pytest comes upon the conftest.py too late."""
    set_options(monkeypatch, pytestconfig, variant_module=["mine"])
    monkeypatch.setenv("PYTHONPATH", "there")
    asked = {pytestconfig.invocation_params.dir / folder: ("mine",) for folder in folders}
    monkeypatch.setitem(pytestconfig.stash, ASKED, asked)  # type: ignore[arg-type]  # it has its methods
    assert replay_command(pytestconfig, "-k it", ["--record r"]) == told


def test_a_diff_shows_one_field_a_line() -> None:
    lines = fixture_of_hra().text().splitlines()
    assert '      ["r", 2],' in lines
    assert '      "d_in": 2,' in lines


# Where examples are kept.


def test_a_database_that_cannot_be_used_is_refused() -> None:
    for url in ("http://127.0.0.1:1/0", "redis://127.0.0.1:port/0"):
        with pytest.raises(pytest.UsageError, match=r"LORA_LITE_EXAMPLES.* Wanted a folder, or redis://"):
            example_database(url)
    with (
        settings_of(example_database("redis://127.0.0.1:1/0")),
        pytest.raises(pytest.UsageError, match="Start the server"),
    ):
        check_database()


@contextmanager
def settings_of(database: ExampleDatabase) -> Iterator[None]:
    """Hypothesis's current profile has this database."""
    before = settings.get_current_profile_name()
    settings.register_profile("for this test", database=database, derandomize=False)
    settings.load_profile("for this test")
    try:
        yield
    finally:
        settings.load_profile(before)
