"""Fixtures travel: written whole under a stable name, read back as the same recipe, refused where they do not
fit.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis.database import ExampleDatabase
from hypothesis.stateful import run_state_machine_as_test

import lora_lite as ll
from properties.instruments.sample_fixtures import CASE, FOUND, fixture_of_hra, set_options
from properties.judging.assertions import Violation
from properties.judging.claim import CLAIMS, Claim, load_claims
from properties.judging.life_machine import Machine
from properties.judging.outcome import CRASHED
from properties.judging.profiles import check_database, example_database
from properties.judging.under_pytest import judged
from properties.mutation import load_catalogue
from properties.regressions.__main__ import main
from properties.regressions.fixture import (
    HERE,
    Fixture,
    FixtureError,
    paths_in,
    read,
    schema,
    tensors_of,
    write,
)
from properties.regressions.record import record, record_folder, replayed_folders
from properties.regressions.replay import replay
from properties.regressions.running import replay_as_test
from properties.regressions.travel import Travelled, summary
from strategies import AdaptedLayer, LinearRecipe, trained_layers
from strategies.recipes import from_json, to_json

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
    assert replayed_folders(pytestconfig) == ([HERE] if folder in (None, HERE) else [HERE, folder])


def test_a_diff_shows_one_field_a_line() -> None:
    lines = fixture_of_hra().text().splitlines()
    assert '      ["r", 2],' in lines
    assert '      "d_in": 2,' in lines


def failing(fixture: Fixture, path: Path = Path("none.json")) -> bool:
    try:
        replay(fixture, path)
    except Violation:
        return True
    return False


def test_replay_fails_with_the_fault_and_holds_without() -> None:
    assert not failing(fixture_of_hra())
    with REVERSED.injected():
        assert failing(fixture_of_hra())
    assert not failing(fixture_of_hra())


def test_a_fixture_that_a_mutant_made_is_red_with_it() -> None:
    """Replay of what lies here can still fail: a fixture that no longer sees its fault guards nothing."""
    for path in paths_in(HERE):
        fixture = read(path)
        if (name := fixture.found.get("mutant")) is not None:
            with load_catalogue()[name].injected():
                assert failing(fixture, path), (
                    f"{path.name} holds with {name} inside: record it anew or delete it"
                )


def test_a_known_failure_is_expected_and_its_end_is_not(asking: Any, tmp_path: Path) -> None:
    known = write(
        fixture_of_hra(expect="fail", reason="to be dealt with", link="https://example.org/1"), tmp_path
    )
    with (
        REVERSED.injected(),
        pytest.raises(pytest.xfail.Exception, match=r"to be dealt with \(https://example.org/1\)"),
    ):
        replay_as_test(known, asking)
    with pytest.raises(
        pytest.fail.Exception, match=r"the known failure is gone \(to be dealt with\)\. Set expect to pass"
    ):
        replay_as_test(known, asking)


def test_a_known_failure_that_ends_in_another_way_is_no_longer_known(asking: Any, tmp_path: Path) -> None:
    """A recipe that builds no layer any more fails too, and not as it was known to."""
    recipe = to_json(replace(CASE, linear=replace(CASE.linear, weight="gone")))
    known = fixture_of_hra(
        recipe=recipe, expect="fail", reason="to be dealt with", link="https://example.org/1"
    )
    with pytest.raises(
        pytest.fail.Exception, match=r"the known failure is .* it ends in \"KeyError: 'gone'\" now"
    ):
        replay_as_test(write(known, tmp_path), asking)


def test_a_crash_in_replay_is_a_failure(asking: Any, tmp_path: Path) -> None:
    """Not an expected one of a fixture that is to pass, and told with its own traceback."""
    refused = write(fixture_of_hra(recipe=to_json(replace(CASE, options=(("r", 3),)))), tmp_path)
    with pytest.raises(ll.ConfigError, match="even"):
        replay_as_test(refused, asking)


def test_a_crash_is_written_down_too(asking: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own traceback, and what a violation ends with as a note."""

    def stumbling(case: AdaptedLayer) -> None:
        raise ZeroDivisionError(f"in {case.linear.d_in}")

    claim_of_ours = Claim("stumbling", stumbling, trained_layers, "forward")
    set_options(monkeypatch, asking.config, record=tmp_path)
    with pytest.raises(ZeroDivisionError) as crash, judged(claim_of_ours, "lora", asking):
        claim_of_ours.run("lora", settings(max_examples=5, database=None))
    (path,) = tmp_path.iterdir()
    recipe, written, replayed = crash.value.__notes__[-1].splitlines()
    assert recipe.startswith("recipe   AdaptedLayer(variant='lora'")
    assert (written, replayed[:16]) == (f"written  {path}", "replay   pytest ")
    ((_, outcome),) = asking.node.user_properties
    assert (outcome["state"], outcome["why"]) == (CRASHED, "ZeroDivisionError: in 1")
    assert f"recipe   {outcome['recipe']}" == recipe
    assert read(path).error == "ZeroDivisionError: in 1"


@pytest.mark.slow
def test_the_steps_of_a_state_machine_are_written_down(
    asking: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hypothesis shrinks the machine's run; the life that it ended with is the fixture."""
    fault = load_catalogue()["hook_left_after_detach"]
    machine_settings = settings(derandomize=True, max_examples=50, stateful_step_count=8, database=None)
    set_options(monkeypatch, asking.config, record=tmp_path)
    failed = pytest.raises(pytest.fail.Exception, match=r"\nwritten  .*\nreplay   pytest --record")
    machine = load_claims()["the_machine_finds_nothing_wrong_in_fifty_steps"]
    with fault.injected(), failed, judged(machine, None, asking):
        run_state_machine_as_test(Machine, settings=machine_settings)
    (path,) = tmp_path.iterdir()
    fixture = read(path)
    assert len(from_json(fixture.recipe).steps) <= 3
    assert not failing(fixture, path)
    with fault.injected():
        assert failing(fixture, path)


# Exact tensors.


def test_recorded_tensors_win_over_the_seed(tmp_path: Path) -> None:
    """The base, the input and the adapter's init of a case are those of the file, whatever the generators
    give by then.
    """
    check = load_claims()["forward_agrees_with_the_oracle"].check
    with REVERSED.injected():
        fixture, path = record(
            "forward_agrees_with_the_oracle",
            "hra",
            CASE,
            Violation("as it was"),
            folder=tmp_path,
            found=FOUND,
            check=check,
        )
    seen: list[list[torch.Tensor]] = []

    def watch(case: AdaptedLayer) -> None:
        model = case.build()
        torch.manual_seed(len(seen))  # another init every time, if it were not for the file
        ll.attach(model, ll.HRAConfig(r=2))
        seen.append([case.x(), *(tensor.detach() for tensor in model.state_dict().values())])

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CLAIMS, fixture.claim, replace(CLAIMS[fixture.claim], check=watch))
        replay(fixture, path)
        # A torch whose generator gives other numbers for the same seed.
        patch.setattr("strategies.tensors._pool", lambda seed, role, size: torch.full((size,), 7.0))
        replay(fixture, path)
        tensors_of(path).unlink()
        replay(fixture, path)
    with_file, again, without = seen
    assert all(torch.equal(a, b) for a, b in zip(with_file, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(with_file, without, strict=True))


def test_the_summary_counts_every_mutant_once() -> None:
    made_of = {
        "seen": Travelled("seen", "claim", (1, 2, 2), 0.010),
        "wide": Travelled("wide", "claim", (1, 8, 2), 0.060),
        "without layers": Travelled("without layers", "claim", None, 0.001),
        "seen by a fact": None,
    }
    reports = [
        pytest.TestReport(
            name, (name, 0, name), {}, "passed", None, when, user_properties=[("row", ""), *kept]
        )
        for name, fixture in made_of.items()
        for kept in ([] if fixture is None else [("fixture", json.dumps(vars(fixture)))],)
        for when in ("call", "teardown")
    ]
    lines = summary(reports).splitlines()
    assert lines[0].startswith("3 of 4 mutants left a fixture")
    assert lines[2] == "Replay until red: median 10 ms, longest 60 ms, 2 in less than 50 ms."
    assert lines[3].endswith("of the 2 cases that have layers: median (1, 5, 2), 1 within (4, 4, 2); larger:")
    assert lines[4:] == ["  wide: (1, 8, 2) by claim"]
    assert summary([]) == ""


# The command line.


def test_adopt_takes_what_is_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its tensors, wherever in the artifact it lies; the second time nothing; nothing at all where one
    is damaged.
    """
    artifact, tree = tmp_path / "artifact", tmp_path / "tree"
    path = write(fixture_of_hra(), artifact / "shard-1")
    tensors_of(path).write_bytes(b"numbers")
    write(fixture_of_hra(), artifact / "shard-2")
    (artifact / "audit.json").write_text("{}")
    assert main(["adopt", "--into", str(tree), str(artifact)]) == 0
    assert sorted(p.name for p in tree.iterdir()) == [path.name, tensors_of(path).name]
    assert (tree / tensors_of(path).name).read_bytes() == b"numbers"
    assert main(["adopt", "--into", str(tree), str(artifact)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing new."
    write(fixture_of_hra(recipe=to_json(replace(CASE, seed=1))), artifact)
    (artifact / "damaged-hra-00000000.json").write_text("{")
    assert main(["adopt", "--into", str(tree), str(artifact)]) == 2
    assert len(list(tree.iterdir())) == 2
    assert main(["adopt", "--into", str(tree), str(tree / "absent")]) == 2


def test_list_tells_what_each_gives_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing of what it gave once; the exit code says whether each gives what it expects."""
    name = write(fixture_of_hra(error="as it was once"), tmp_path).name
    listing = ["list", "--into", str(tmp_path)]
    assert main(listing) == 0
    with REVERSED.injected():
        assert main(listing) == 1
    (tmp_path / name).unlink()
    write(fixture_of_hra(expect="fail", reason="to be dealt with", link="https://example.org/1"), tmp_path)
    assert main(listing) == 1
    with REVERSED.injected():
        assert main(listing) == 0
    passes, fails = "passes now", "fails now: the output of layer 0 is not the oracle's: got"
    told = [("pass", passes), ("pass", fails), ("fail", passes), ("fail", fails)]
    for line, (expect, now) in zip(capsys.readouterr().out.splitlines(), told, strict=True):
        assert line.startswith(f"{name}: expected to {expect}, {now}")


def test_show_prints_a_recipe_to_paste_and_runs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write(fixture_of_hra(), tmp_path))
    assert main(["show", path]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [f"recipe   {CASE!r}", "It holds."]
    with REVERSED.injected():
        assert main(["show", path]) == 1
    told = capsys.readouterr().out
    assert "the output of layer 0 is not the oracle's" in told
    assert told.count("recipe   ") == 1


def test_prune_keeps_the_simplest_and_what_nothing_implies(tmp_path: Path) -> None:
    """The same claim on a wider layer says nothing new; one of another variant does, and so does one that no
    mutant fails.
    """
    needed = {
        write(fixture_of_hra(), tmp_path),
        write(
            fixture_of_hra(
                variant="ia3", recipe=to_json(replace(CASE, variant="ia3", options=(("dtype", "float32"),)))
            ),
            tmp_path,
        ),
        write(
            fixture_of_hra(
                claim="save_load_keeps_every_bit",
                recipe=to_json(replace(CASE, tokens=(0,), trained=False)),
            ),
            tmp_path,
        ),
    }
    wider = write(fixture_of_hra(recipe=to_json(replace(CASE, linear=LinearRecipe(2, 12)))), tmp_path)
    assert main(["prune", "--into", str(tmp_path), "--dry-run"]) == 0
    assert wider.exists()
    assert main(["prune", "--into", str(tmp_path)]) == 0
    assert set(tmp_path.glob("*.json")) == needed


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
