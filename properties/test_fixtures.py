"""Fixtures travel: written whole under a stable name, read back as the same recipe, refused with a reason where not."""

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import lora_lite as ll
from properties.assertions import Violation
from properties.mutants import load_catalogue
from properties.registry import PROPERTIES, load_properties
from properties.regressions.fixture import Fixture, FixtureError, read, tensors_of, write
from properties.regressions.record import record
from properties.regressions.replay import replay
from strategies import AdaptedLayer, LinearRecipe, gaussian
from strategies.draws import recorded, served
from strategies.recipes import RecipeError, from_json, to_json

REPOSITORY = Path(__file__).parent.parent
REVERSED = load_catalogue()["hra_reflections_in_reverse"]
# The smallest layer in which the order of the reflections can be seen.
CASE = AdaptedLayer("hra", LinearRecipe(2, 1), (("r", 2), ("dtype", "float32")), tokens=(), trained=True)
FOUND = {"test": "properties/test_fixtures.py::by_hand", "profile": "dev", "seed": None, "examples": 1}


def made(**changes: Any) -> Fixture:
    fixture = Fixture("forward_agrees_with_the_oracle", "hra", to_json(CASE), "the output of 0 is the oracle's", FOUND)
    return replace(fixture, **changes)


def cases_of(variant: str) -> st.SearchStrategy[Any]:
    """A case of any property that draws cases of this variant."""
    about = [p for p in load_properties().values() if p.cases is not None and p.applies(ll.VARIANTS[variant])]
    return st.sampled_from(about).flatmap(lambda p: p.cases(variant))  # type: ignore[misc]  # None was left out


def test_every_case_comes_back_from_json_as_it_was(variant: str) -> None:
    """Whatever a property draws can be a fixture; numbers keep their type."""

    @given(cases_of(variant))
    @settings(max_examples=60, database=None, phases=[Phase.generate])
    def check(case: Any) -> None:
        back = from_json(json.loads(json.dumps(to_json(case), allow_nan=False)))
        assert (back, repr(back)) == (case, repr(case))

    check()


@pytest.mark.parametrize("value", [torch.float32, [1], float("nan"), {"r": 1}, st.none()])
def test_what_is_no_recipe_is_not_written(value: Any) -> None:
    with pytest.raises(RecipeError, match="A recipe holds"):
        to_json(replace(CASE, options=(("r", value),)))


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
        replay(made(recipe=recipe), Path("here.json"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"variant": "gone"}, "there is no variant gone, known: "),
        ({"property": "gone"}, "there is no property gone that draws cases of hra"),
        ({"property": "detach_without_an_adapter_is_refused"}, "that draws cases of hra"),
        ({"property": "zero_rows_of_hra_are_no_reflection", "variant": "lora"}, "that draws cases of lora"),
    ],
    ids=["variant", "property", "fact", "does not apply"],
)
def test_a_fixture_about_nothing_is_an_error(change: dict[str, Any], match: str) -> None:
    with pytest.raises(FixtureError, match=match):
        replay(made(**change), Path("here.json"))


def test_a_field_added_later_has_its_default() -> None:
    recipe = to_json(CASE)
    del recipe["calibrated"], recipe["linear"]["bias"]
    assert from_json(recipe) == CASE


def test_the_same_failure_has_the_same_name(tmp_path: Path) -> None:
    """Whoever found it, with whatever message and versions; another recipe has another."""
    first = write(made(), tmp_path)
    assert first.name == "forward_agrees_with_the_oracle-hra-1c6d8187.json"
    again = made(error="worded differently", found={**FOUND, "examples": 40}, versions={**made().versions, "torch": "9.9"})
    assert write(again, tmp_path) == first
    assert read(first) == made()
    assert write(made(recipe=to_json(replace(CASE, seed=1))), tmp_path) != first


def test_a_known_failure_stays_marked_when_it_is_found_again(tmp_path: Path) -> None:
    known = made(expect="fail", reason="being worked on", link="https://example.org/1")
    path = write(known, tmp_path)
    assert read(write(made(), tmp_path)) == known
    path.write_text(path.read_text()[:100])
    assert read(write(made(), tmp_path)) == made()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda text: text[:200], "not readable as JSON"),
        (lambda text: text.replace('"expect": "pass"', '"expect": "maybe"'), "expect: 'maybe' is not one of"),
        (lambda text: text.replace('"expect": "pass"', '"expect": "fail"'), "'reason' is a required property"),
        (lambda text: text.replace('"error"', '"eror"'), "'eror' was unexpected|'error' is a required"),
        (lambda text: text.replace('"seed": 0', '"seed": 1'), "its content is that of .* Rename it, or restore"),
    ],
    ids=["cut", "expect", "no reason", "field", "edited"],
)
def test_a_damaged_fixture_is_an_error(change: Any, match: str, tmp_path: Path) -> None:
    path = write(made(), tmp_path)
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(FixtureError, match=match):
        read(path)


def test_a_diff_shows_one_field_a_line() -> None:
    lines = made().text().splitlines()
    assert '      ["r", 2],' in lines
    assert '      "d_in": 2,' in lines


def failing(fixture: Fixture, path: Path = Path("none.json")) -> bool:
    try:
        replay(fixture, path)
    except Violation:
        return True
    return False


def test_replay_fails_with_the_fault_and_holds_without() -> None:
    assert not failing(made())
    with REVERSED.injected():
        assert failing(made())
    assert not failing(made())


# Exact tensors.


def test_recorded_tensors_win_over_the_seed(tmp_path: Path) -> None:
    """The base, the input and the adapter's init of a case are those of the file, whatever the generators give by then."""
    check = PROPERTIES["forward_agrees_with_the_oracle"].check
    with REVERSED.injected():
        fixture, path = record(
            "forward_agrees_with_the_oracle", "hra", CASE, Violation("as it was"), folder=tmp_path, found=FOUND, check=check
        )
    seen: list[list[torch.Tensor]] = []

    def watch(case: AdaptedLayer) -> None:
        model = case.build()
        torch.manual_seed(len(seen))  # another init every time, if it were not for the file
        ll.attach(model, ll.HRAConfig(r=2))
        seen.append([case.x(), *(tensor.detach() for tensor in model.state_dict().values())])

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROPERTIES, fixture.property, replace(PROPERTIES[fixture.property], check=watch))
        replay(fixture, path)
        # A torch whose generator gives other numbers for the same seed.
        patch.setattr("strategies.tensors._pool", lambda seed, role, size: torch.full((size,), 7.0))
        replay(fixture, path)
        tensors_of(path).unlink()
        replay(fixture, path)
    with_file, again, without = seen
    assert all(torch.equal(a, b) for a, b in zip(with_file, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(with_file, without, strict=True))


def test_tensors_that_no_longer_fit_are_an_error(tmp_path: Path) -> None:
    with recorded() as kept:
        gaussian(0, "x", (3,))
    with served(kept):
        assert torch.equal(gaussian(0, "x", (2,)), kept["gaussian 0 x of 1024"][:2])
        with pytest.raises(RecipeError, match=r"hold no gaussian 0 x of 1024 of 4 numbers"):
            gaussian(0, "x", (4,))


# Two at once, and killed half-way.

WRITES = """
    import sys
    from pathlib import Path
    from properties.regressions.fixture import write
    from properties.test_fixtures import made
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(300):
        write(made(), Path(sys.argv[1]))
        Path(sys.argv[1], made().name()).unlink(missing_ok=True) if len(sys.argv) > 2 else None
    write(made(), Path(sys.argv[1]))
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that waits for a line before it does what matters."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_that_fail_at_once_write_one_file(tmp_path: Path) -> None:
    processes = [python(WRITES, str(tmp_path), "and delete") for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.communicate("go\n", timeout=60)[0] == ""
        assert process.returncode == 0
    (path,) = tmp_path.iterdir()
    assert read(path) == made()
