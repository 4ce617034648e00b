"""Audits of several machines become one: what is united, what is refused, and what a lost one leaves open."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from properties.audit import records
from properties.audit.__main__ import main
from properties.audit.evidence import Evidence
from properties.audit.merge import merge, unite
from properties.audit.provenance import TESTS, fingerprint
from properties.audit.records import Records, RecordsError
from properties.audit.report import Provenance, Shard, SuiteFailure
from properties.audit.schema import validate
from properties.instruments.run_audit import ROOT
from properties.instruments.sample_audit import PROVENANCE, everything_held
from properties.judging.outcome import BROKEN, CRASHED, HELD, NOT_APPLICABLE, NOT_JUDGED, Outcome
from properties.subjects.living import judged_methods, library, methods_of, part_of

pytestmark = pytest.mark.instruments

CLAIM, OTHER = "the_base_does_not_train", "the_base_keeps_every_bit"
LORA, HRA, EVA = "lora_lite:lora", "lora_lite:hra", "lora_lite:eva"
SUITE = fingerprint(TESTS)


def outcome(state: str, method: str = LORA, claim: str = CLAIM, **known: Any) -> Outcome:
    stage = "init" if claim == CLAIM else "attach"
    return Outcome(claim, method, stage, state, **{"examples": 9, "budget": 60, "seconds": 1.0} | known)


def shard(seed: str = "1", *, part: str = "", **changed: Any) -> Shard:
    """Of the methods of lora_lite, judged as any library's."""
    asked = [LORA, HRA, EVA]
    k, n = part_of(part or "1/1")
    of: dict[str, Any] = {"seed": seed, "repeats": True, "seconds": 2.0}
    versions = changed.pop("versions", PROVENANCE.versions)
    how: Provenance = replace(PROVENANCE, **of, versions=versions)
    made = Shard(f"run {seed} {part}", how, ["lora_lite"], part, asked, asked[k - 1 :: n], [], SUITE)
    return replace(made, **changed)


def kept(folder: Path, made: Shard, *outcomes: Outcome) -> Path:
    """The folder of an audit that judged these."""
    records.write(Records([made], Evidence(outcomes=[*outcomes])), folder)
    return folder


def states(folder: Path, claim: str = CLAIM) -> dict[str, str]:
    """What came of a claim on each method, as the table has it."""
    rows = json.loads((folder / "subjects.json").read_text())["rows"]
    return {row["method"]: next(o["state"] for o in row["outcomes"] if o["claim"] == claim) for row in rows}


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ((HELD, BROKEN), BROKEN),
        ((BROKEN, HELD), BROKEN),
        ((BROKEN, CRASHED), CRASHED),
        ((HELD, NOT_JUDGED), HELD),
        ((NOT_JUDGED, HELD), HELD),
        ((NOT_JUDGED, NOT_JUDGED), NOT_JUDGED),
        ((NOT_APPLICABLE, NOT_JUDGED), NOT_JUDGED),
    ],
)
def test_outcomes_of_several_runs_are_one(given: Sequence[str], made: str) -> None:
    (found,) = unite([Evidence(outcomes=[outcome(state)]) for state in given]).outcomes
    assert (found.state, found.examples, found.seconds) == (made, 18, 2.0)


def test_the_largest_error_and_the_failing_recipe_are_kept() -> None:
    failed = outcome(BROKEN, recipe="Case(1)", why="off", worst={"float32": 3.0})
    (found,) = unite(
        [Evidence(outcomes=[o]) for o in (outcome(HELD, worst={"float32": 0.5}), failed)]
    ).outcomes
    assert (found.recipe, found.why, found.worst) == ("Case(1)", "off", {"float32": 3.0})


def test_a_replay_judges_nothing_beside_a_run_that_drew() -> None:
    """It held in one run, which was cut off before it drew; the other refused all that it drew."""
    replayed = Evidence(outcomes=[outcome(HELD, replayed=True)])
    (found,) = unite([replayed, Evidence(outcomes=[outcome(NOT_JUDGED, examples=0)])]).outcomes
    assert found.state == NOT_JUDGED
    (found,) = unite([replayed, replayed]).outcomes
    assert (found.state, found.replayed) == (HELD, True)


def test_parts_and_seeds_become_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two parts of one seed, and another seed of all; merged in two steps it is the same."""
    folders = [
        kept(tmp_path / "1", shard(part="1/2"), outcome(HELD), outcome(HELD, EVA)),
        kept(tmp_path / "2", shard(part="2/2"), outcome(HELD, HRA)),
        kept(tmp_path / "3", shard("2"), outcome(BROKEN, HRA), outcome(HELD), outcome(NOT_JUDGED, EVA)),
    ]
    assert main(["merge", *map(str, folders), "--into", str(tmp_path / "all"), "--subject", "lora_lite"]) == 0
    assert states(tmp_path / "all") == {LORA: HELD, HRA: BROKEN, EVA: HELD}
    assert "lora_lite: 3 methods (2 held, 1 broken), 1 broken claim" in capsys.readouterr().out
    page = (tmp_path / "all" / "subjects.html").read_text()
    assert all(f"<td>{cell}</td>" in page for cell in ("1/2", "2/2", "all", "1", "2"))
    assert f"torch {PROVENANCE.versions['torch']}" in page
    merge(folders[:2], tmp_path / "half")
    merge([tmp_path / "half", folders[2]], tmp_path / "again")
    rows = [json.loads((tmp_path / into / "subjects.json").read_text())["rows"] for into in ("all", "again")]
    assert rows[0] == rows[1]


def test_what_a_lost_part_should_have_judged_is_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name; and a library of which nothing is there is told too."""
    folder = kept(tmp_path / "1", shard(part="1/2"), outcome(HELD), outcome(HELD, EVA))
    wanted = ["--subject", "lora_lite", "--subject", "loralib"]
    assert main(["merge", str(folder), "--into", str(tmp_path / "all"), *wanted]) == 1
    found = states(tmp_path / "all")
    judged = {LORA: HELD, EVA: HELD}
    assert found == {m: judged.get(m, found[m]) for m in [LORA, HRA, EVA, *found]}
    others = {*methods_of("loralib"), HRA}
    assert {found[method] for method in others} <= {NOT_JUDGED, NOT_APPLICABLE}
    told = capsys.readouterr().err
    assert "lost: part 2/2 of lora_lite, seed 1:" in told
    assert "lost: all of loralib:" in told
    assert "part 2/2 of lora_lite, seed 1; all of loralib" in (tmp_path / "all" / "subjects.html").read_text()
    (row,) = [
        row
        for row in json.loads((tmp_path / "all" / "subjects.json").read_text())["rows"]
        if row["method"] == HRA
    ]
    assert {o["why"] for o in row["outcomes"] if o["claim"] == CLAIM} == {"no run judged it"}


def test_lora_lites_own_verdicts_are_of_all_runs(tmp_path: Path) -> None:
    """What one seed breaks the other cannot mend; a failure of the suite itself is told of."""
    own: dict[str, Any] = {"subjects": [], "asked": [], "judged": [], "variants": ["ia3"]}
    held = everything_held(["ia3"])
    name = "forward_agrees_with_the_oracle"
    worse = [
        replace(o, state=BROKEN, why="off") if o.claim == name and o.method else o for o in held.outcomes
    ]
    records.write(Records([shard("1", **own)], held), tmp_path / "1")
    broken = Evidence(outcomes=worse, failures=[SuiteFailure("test_it.py::test_it", "wrong", "pytest")])
    records.write(Records([shard("2", **own)], broken), tmp_path / "2")
    made = merge([tmp_path / "1", tmp_path / "2"], tmp_path / "all")
    data = json.loads((tmp_path / "all" / "audit.json").read_text())
    validate(data)
    assert made.buggy
    assert (data["verdict"], data["provenance"]["seed"], len(data["shards"])) == ("BUGGY", "1, 2", 2)
    assert data["suite"][0]["message"] == "wrong"
    assert data["provenance"]["tests"] == {"passed": 2}
    (found,) = [o for o in data["blocks"][0]["outcomes"] if o["claim"] == name]
    assert (found["state"], found["examples"]) == (BROKEN, 120)


def _changed(folder: Path, **changed: Any) -> None:
    held = json.loads((folder / records.NAME).read_text())
    (folder / records.NAME).write_text(json.dumps(held | changed))


def _cut(folder: Path) -> None:
    path = folder / records.NAME
    path.write_bytes(path.read_bytes()[:-9])


def test_a_folder_that_is_no_whole_audit_is_refused(tmp_path: Path) -> None:
    """One that is none, a truncated record, a changed one, another format; and nothing is written."""
    good = kept(tmp_path / "good", shard())
    (tmp_path / "none").mkdir()
    _cut(kept(tmp_path / "cut", shard("2")))
    _changed(kept(tmp_path / "changed", shard("3")), skipped={"a": "b"})
    _changed(kept(tmp_path / "listed", shard("4")), shards=None)
    _changed(kept(tmp_path / "other", shard("5")), format=99)
    wrong = {
        "none": "none: found no records.json (No such file or directory), wanted the folder of pytest",
        "gone": "gone: found no records.json",
        "cut": "cut/records.json: these are no whole records (JSONDecodeError",
        "changed": "changed/records.json: its digest is not that of what it holds",
        "listed": "listed/records.json: its digest is not",
        "other": "other/records.json: its digest is not",
    }
    for name, why in wrong.items():
        with pytest.raises(RecordsError) as refused:
            merge([good, tmp_path / name], tmp_path / "all")
        assert why in str(refused.value)
    assert not [path for path in tmp_path.iterdir() if "all" in path.name]


def test_a_run_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    """A copy, a repetition with the same seed, and one that a merge has in it already."""
    first, other = kept(tmp_path / "1", shard()), kept(tmp_path / "other", shard("2"))
    copy = kept(tmp_path / "copy", shard())
    repeated = kept(tmp_path / "repeated", shard(run="another"))
    merge([first, other], tmp_path / "both")
    for second, what in ((copy, "this run"), (repeated, "its seed"), (tmp_path / "both", "this run")):
        with pytest.raises(RecordsError, match=rf"{second.name}: found {what}.* in .*1 too .*seed: 1"):
            merge([first, second], tmp_path / "all")
    drawn = [replace(shard(run=run), provenance=PROVENANCE) for run in ("a", "b")]
    merge([kept(tmp_path / one.run, one) for one in drawn], tmp_path / "all")


def test_versions_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """Of a package, of lora_lite, of the suite; what one run had and another had not is no contradiction."""
    first, versions = kept(tmp_path / "1", shard()), PROVENANCE.versions
    wrong = {
        "torch 0.1": shard("2", versions=versions | {"torch": "0.1"}),
        "the suite other": shard("2", suite="other"),
    }
    for what, made in wrong.items():
        with pytest.raises(RecordsError, match=rf"found {what}, and .* in .*1\. One table"):
            merge([first, kept(tmp_path / "2", made)], tmp_path / "all")
    with pytest.raises(RecordsError, match=r"found the suite other, and .* here, where methods and claims"):
        merge([kept(tmp_path / "2", shard("2", suite="other"))], tmp_path / "all")
    without = kept(tmp_path / "2", shard("2", versions=versions | {"peft": "not installed"}))
    merge([without, first], tmp_path / "all")
    held = json.loads((tmp_path / "all" / "subjects.json").read_text())
    assert [one["provenance"]["versions"]["peft"] for one in held["shards"]] == [
        "not installed",
        versions["peft"],
    ]


def test_what_stands_where_it_should_go_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier page is not overwritten, and a merge that breaks leaves nothing half written."""
    folder = kept(tmp_path / "1", shard(), outcome(HELD))
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "mine.txt").write_text("mine")
    with pytest.raises(RecordsError, match="all: found something there, wanted a folder that is empty"):
        merge([folder], tmp_path / "all")
    monkeypatch.setattr(records, "write", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        merge([folder], tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "all"]


def test_a_variant_that_is_not_known_here_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"found the variant gain, .* with --variant-module"):
        merge([kept(tmp_path / "1", shard(variants=["gain"]))], tmp_path / "all")


@pytest.mark.slow
def test_a_part_that_a_process_judged_is_merged_without_the_other(tmp_path: Path) -> None:
    """pytest itself: it keeps its records, of the methods of its part, and tells of the other."""
    if missing := library("loralib").missing():
        pytest.skip(f"not judged: {missing}")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "properties", "--no-record"]
    command += ["--subject", "loralib", "--part", "1/2", "-k", CLAIM, "--hypothesis-seed", "7"]
    environment = {n: v for n, v in os.environ.items() if not n.startswith("PYTEST_")}
    ended = subprocess.run(
        [*command, "--audit", str(tmp_path / "1")], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    made = merge([tmp_path / "1"], tmp_path / "all")
    assert made.lost == ["part 2/2 of loralib, seed 7"]
    first, second = methods_of("loralib")
    assert states(tmp_path / "all") == {first: HELD, second: NOT_JUDGED}


@pytest.mark.parametrize("wrong", ["", "0/2", "3/2", "1/0", "1", "1/2/3", "-1/2", "one/2"])
def test_a_part_is_one_of_a_whole(wrong: str) -> None:
    with pytest.raises(ValueError, match="wanted K/N: part K of N, as 2/4"):
        part_of(wrong)


def test_all_parts_together_are_the_whole() -> None:
    class Given:
        def __init__(self, part: str | None) -> None:
            self.options = {"--subject": ["lora_lite"], "--part": part}

        def getoption(self, name: str) -> Any:
            return self.options.get(name)

    whole = judged_methods(Given(None))
    parts = [judged_methods(Given(f"{k}/4")) for k in (1, 2, 3, 4)]
    assert sorted(method for part in parts for method in part) == sorted(whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
