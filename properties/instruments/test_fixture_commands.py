"""python -m properties.regressions: adopt, list, show, prune; and the summary of what travelled."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from properties.instruments.sample_fixtures import CASE, fixture_of_hra
from properties.mutation import load_catalogue
from properties.regressions.__main__ import main
from properties.regressions.fixture import (
    tensors_of,
    write,
)
from properties.regressions.travel import Travelled, summary
from strategies import LinearRecipe
from strategies.recipes import to_json

pytestmark = pytest.mark.instruments

REVERSED = load_catalogue()["hra_reflections_in_reverse"]


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
