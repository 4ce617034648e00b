"""The workflow of the continuous integration is valid, and what it runs and uploads is there."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from properties.audit.__main__ import parser
from properties.instruments.sample_fixtures import set_options
from properties.instruments.sessions import Session
from properties.instruments.strangers import NAMES
from properties.instruments.strangers.__main__ import arguments
from properties.judging.profiles import EXAMPLES
from properties.mutation import __main__ as mutation
from properties.regressions.record import record_folder
from properties.subjects.living import LIBRARIES, part_of

pytestmark = pytest.mark.instruments

REPOSITORY = Path(__file__).parents[2]
# Of GitHub, in one workflow run.
MOST_JOBS = 256
WORKFLOW = REPOSITORY / ".github" / "workflows" / "ci.yml"


def jobs() -> dict[str, dict[str, Any]]:
    return YAML(typ="safe").load(WORKFLOW)["jobs"]  # type: ignore[no-any-return]


def commands(job: dict[str, Any]) -> list[list[str]]:
    """Words of what the job runs, on the first machine of its matrix; what else the runner's own expressions
    stand for are numbers.
    """
    share = job.get("strategy", {}).get("matrix", {}).get("share", [{}])[0]
    texts = [
        step["run"].replace("${{ matrix.share.judge }}", share.get("judge", ""))
        for step in job["steps"]
        if "run" in step
    ]
    return [shlex.split(re.sub(r"\$\{\{.*?\}\}", "7", text)) for text in texts]


def test_the_workflow_is_valid() -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        str(WORKFLOW),
    ]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
def test_every_command_of_the_workflow_exists() -> None:
    """A file that can be run, an install of extras or a file that are there, or a selection of tests that
    pytest finds.
    """
    for words in (words for job in jobs().values() for words in commands(job)):
        if words[:3] == ["python", "-m", "pip"]:
            assert_installs(words)
        elif words[:3] == ["python", "-m", "pytest"]:
            assert_selects(words)
        elif words[:4] == ["python", "-m", "properties.audit", "merge"]:
            assert parser().parse_args(words[3:]).into == Path("artifacts/audit")
        elif words[:3] == ["python", "-m", "properties.instruments.strangers"]:
            assert_judges_the_strangers(words)
        elif words[:3] == ["python", "-m", "properties.mutation"]:
            assert_tries_all_mutants(words)
        else:
            (program,) = words
            assert os.access(REPOSITORY / program, os.X_OK), program


def assert_judges_the_strangers(words: list[str]) -> None:
    """All of them, each in a job of its own."""
    matrix = jobs()["strangers"]["strategy"]["matrix"]
    assert matrix["variant"] == list(NAMES)
    given = arguments().parse_args([matrix["variant"][0] if word == "7" else word for word in words[3:]])
    assert (given.seeds, given.examples) == (10, 200)


def assert_tries_all_mutants(words: list[str]) -> None:
    """In parts that make the whole."""
    given = mutation.arguments().parse_args(words[3:])
    parts = jobs()["mutants"]["strategy"]["matrix"]["part"]
    assert parts == [*range(1, given.part[1] + 1)]
    assert given.all or given.kind == "interface"


def assert_installs(words: list[str]) -> None:
    if "-r" in words:
        assert (REPOSITORY / words[words.index("-r") + 1]).is_file(), words
        return
    (extras,) = re.findall(r"\.\[(.*?)\]", words[-1])
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(declared), extras
    assert (REPOSITORY / words[words.index("-c") + 1]).is_file(), words


def assert_selects(words: list[str]) -> None:
    workers = words.index("-n")
    alone = (*words[3:workers], *words[workers + 2 :], "--collect-only", "-qq", "-p", "no:cacheprovider")
    code, printed = Session(REPOSITORY, alone, {**os.environ, "PYTHONPATH": str(REPOSITORY)}).ended()
    assert code == 0, printed


def test_every_job_uploads_what_failures_wrote(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is red; and the audit, where there is one, lies there too."""
    set_options(monkeypatch, pytestconfig, CI="true")
    written = record_folder(pytestconfig)
    assert written is not None
    for name, job in jobs().items():
        (upload,) = (
            step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact@")
        )
        assert upload["if"] == "always()", name
        audits = [words[words.index("--audit") + 1] for words in commands(job) if "--audit" in words]
        for folder in (written, *map(Path, audits)):
            assert folder.is_relative_to(upload["with"]["path"]), name


def test_the_nightly_machines_keep_their_examples_and_differ() -> None:
    """Each has a seed, a part of a library's methods, and a folder of examples where there is no redis."""
    nightly = jobs()["nightly"]
    kept = {
        step["uses"].split("@")[0]: step["with"]
        for step in nightly["steps"]
        if "cache" in step.get("uses", "")
    }
    assert {*kept} == {"actions/cache/restore", "actions/cache/save"}
    assert {one["path"] for one in kept.values()} == {".hypothesis/examples"}
    (upload,) = (step["with"]["name"] for step in nightly["steps"] if "upload" in step.get("uses", ""))
    for name in (*(one["key"] for one in kept.values()), upload):
        assert "matrix.share.name" in name
        assert "matrix.seed" in name
    assert EXAMPLES in nightly["env"]
    run = " ".join(step.get("run", "") for step in nightly["steps"])
    (seed,) = re.findall(r"--hypothesis-seed (.*) --", run)
    assert "matrix.seed" in seed
    assert "github.run_number" in seed
    assert len(set(nightly["strategy"]["matrix"]["seed"])) > 1


def test_the_night_judges_every_library_in_whole() -> None:
    """All parts of each, one machine each; and the merge asks for the same libraries."""
    nightly, found = jobs()["nightly"], set()
    shares = nightly["strategy"]["matrix"]["share"]
    for share in shares:
        words = shlex.split(share["judge"])
        given = dict(zip(words[::2], words[1::2], strict=True))
        assert {*given} <= {"--subject", "--part"}
        found.add((given["--subject"], *part_of(given.get("--part", "1/1"))))
    whole = {name: max(of for n, _, of in found if n == name) for name in LIBRARIES}
    assert found == {(name, part, of) for name, of in whole.items() for part in range(1, of + 1)}
    assert len({share["name"] for share in shares}) == len(shares) == len(found)
    assert len(shares) * len(nightly["strategy"]["matrix"]["seed"]) <= MOST_JOBS
    merging = jobs()["merge"]
    (words,) = (words for words in commands(merging) if "merge" in words)
    asked = parser().parse_args(words[3:])
    assert {*asked.subject} == {*LIBRARIES}
    (download,) = (step["with"] for step in merging["steps"] if "download" in step.get("uses", ""))
    (upload,) = (step["with"] for step in nightly["steps"] if "upload-" in step.get("uses", ""))
    assert upload["name"].startswith(download["pattern"].removesuffix("*"))
    assert [str(folder) for folder in asked.folders] == [f"{download['path']}/*/audit"]
    assert merging["needs"] == "nightly"
    assert merging["if"].startswith("always()")
