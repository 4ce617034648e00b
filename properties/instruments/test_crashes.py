"""Tests that kill their process, in runs of pytest of their own: without xdist and with it, whole and
interrupted.
"""

import os
import re
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from properties.crashes import in_process
from properties.deaths import how_it_ended
from properties.instruments.dying_runs import DYING, WAITING, ended, is_alive, started, waited_for
from properties.instruments.run_audit import run_audit
from properties.judging import journal
from properties.judging.journal import Entry, Journal
from properties.regressions.fixture import read

MODES = {"alone": (), "workers": ("-n", "2")}

pytestmark = pytest.mark.instruments


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_death_is_a_failed_test_and_the_run_goes_on(mode: str, tmp_path: Path) -> None:
    code, printed, reports = ended(tmp_path, DYING, *MODES[mode])
    assert code == pytest.ExitCode.TESTS_FAILED, printed
    assert {name: report["outcome"] for name, report in reports.items()} == {
        "test_before": "passed",
        **{f"test_dies[{death}]": "failed" for death in ("abort", "null", "exit", "kill")},
        "test_after": "passed",
        "test_last": "passed",
    }
    for death, named, status, told in (
        ("abort", "SIGABRT", -6, "killed by SIGABRT"),
        ("null", "SIGSEGV", -11, "killed by SIGSEGV"),
        ("exit", None, 3, "ended without a report, with exit status 3"),
        ("kill", "SIGKILL", -9, "killed by SIGKILL"),
    ):
        test = f"test_dies[{death}]"
        nodeid, recipe = f"test_it.py::{test}", repr(death)
        crashed = {"nodeid": nodeid, "signal": named, "status": status, "recipe": recipe}
        assert (reports[test]["crashed"], reports[test]["when"]) == (crashed, "call")
        lines = reports[test]["text"].splitlines()
        assert lines[-2:] == [f"recipe   {recipe}", f'replay   pytest "{nodeid}"']
        assert told in lines
        assert f"FAILED {nodeid} - {told}" in printed
    assert "in test_dies" in reports["test_dies[abort]"]["text"]
    assert list(tmp_path.glob("lora-lite-*")) == []
    if mode == "alone":
        # What a dead one had set up is not torn down; what it had gathered and printed is there.
        assert "gathered: ['after', 'before', 'last']" in printed
        assert (tmp_path / "torn").read_text() == "down "
        assert printed.count("said kill") == 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_maxfail_counts_deaths(mode: str, tmp_path: Path) -> None:
    code, printed, reports = ended(tmp_path, DYING, "-x", *MODES[mode])
    assert code == (pytest.ExitCode.TESTS_FAILED if mode == "alone" else pytest.ExitCode.INTERRUPTED)
    assert "stopping after 1 failures" in printed
    if mode == "alone":
        assert list(reports) == ["test_before", "test_dies[abort]"]


@pytest.mark.slow
def test_deaths_of_tests_use_up_no_restarts(tmp_path: Path) -> None:
    """xdist gives up after four with one worker."""
    test = (
        "import os, pytest\n@pytest.mark.parametrize('i', range(6))\ndef test_dies(i): i == 5 or os.abort()\n"
    )
    code, printed, reports = ended(tmp_path, test, "-n", "1")
    assert code == pytest.ExitCode.TESTS_FAILED, printed
    assert sorted(report["outcome"] for report in reports.values()) == ["failed"] * 5 + ["passed"]


@pytest.mark.slow
def test_what_dies_with_a_fixture_is_in_that_phase(tmp_path: Path) -> None:
    test = "import os, pytest\n"
    for name, body in (("up", "os.abort()\n    yield"), ("down", "yield\n    os.abort()")):
        test += f"@pytest.fixture\ndef {name}():\n    {body}\ndef test_{name}({name}): pass\n"
    code, printed, _ = ended(tmp_path, test)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "ERROR at setup of test_up" in printed
    assert "ERROR at teardown of test_down" in printed
    assert "1 passed, 2 errors" in printed


@pytest.mark.slow
def test_a_run_without_deaths_prints_what_it_printed_before(tmp_path: Path) -> None:
    """Order of -s, captured output, warnings, skips, properties; fixtures are torn down, with -x too."""
    test = DYING.partition("@pytest.mark.parametrize")[0] + (
        "def test_warns(made, tmp_path, record_property):\n    import warnings\n    print('said')\n"
        "    record_property('found', (1, 2))\n    warnings.warn('odd')\n"
        "@pytest.mark.xfail(strict=True)\ndef test_xfails(): assert 0\n"
        "@pytest.mark.skip(reason='why')\ndef test_skips(): pass\n"
        "def test_fails(made): assert 0, 'wrong'\ndef test_left_out(made): pass\n"
    )
    for options in (("-s", "-v"), ("-rA", "--durations=3", "-vv"), ("-x", "--junitxml=junit.xml")):
        printed = []
        for off in ((), ("-p", "no:crashes")):
            (tmp_path / "torn").unlink(missing_ok=True)
            code, text, _ = ended(tmp_path, test, *options, *off)
            assert (code, (tmp_path / "torn").read_text()) == (pytest.ExitCode.TESTS_FAILED, "down ")
            text = re.sub(r"\d+\.\d\ds (setup|call|teardown) .*|in \d+\.\d+s|=+|gw?\d+", "", text)
            junit = tmp_path / "junit.xml"
            written = junit.read_text() if junit.exists() else ""
            assert list(tmp_path.glob("pytest-of-*/pytest-*/.lock")) == []
            printed.append((text, re.sub(r'(time|timestamp)="[^"]*"', "", written)))
        assert printed[0] == printed[1], options


@pytest.mark.slow
@pytest.mark.parametrize("to", ["group", "parent", "child and parent"])
def test_an_interruption_ends_the_child_as_pytest_ends(to: str, tmp_path: Path) -> None:
    """A terminal tells the group, an IDE the process that it started; told twice, it still tears down."""
    process = started(tmp_path, WAITING)
    waited_for(tmp_path / "waits")
    child = int((tmp_path / "waits").read_text())
    if to == "child and parent":
        os.kill(child, signal.SIGINT)
        waited_for(tmp_path / "tearing")
    (os.killpg if to == "group" else os.kill)(process.pid, signal.SIGINT)
    code, printed = process.ended(timeout=60)
    assert code == pytest.ExitCode.INTERRUPTED
    assert re.search("!! KeyboardInterrupt: .*test_it.py:[0-9]+ !!", printed)
    assert "1 passed in" in printed
    assert (tmp_path / "torn").exists()
    assert not is_alive(child)


@pytest.mark.slow
def test_a_second_interruption_kills_a_child_that_ignores_the_first(tmp_path: Path) -> None:
    (tmp_path / "stubborn").touch()
    process = started(tmp_path, WAITING)
    waited_for(tmp_path / "waits")
    child = int((tmp_path / "waits").read_text())
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1)
    assert process.code is None
    os.killpg(process.pid, signal.SIGINT)
    code, printed = process.ended(timeout=60)
    assert code == pytest.ExitCode.INTERRUPTED, printed
    assert not is_alive(child)


@pytest.mark.slow
def test_a_process_that_a_test_left_running_holds_nothing_up(tmp_path: Path) -> None:
    test = "import os, time\ndef test_dies():\n    time.sleep(60) if os.fork() == 0 else os.abort()\n"
    process = started(tmp_path, test)
    code, printed = process.ended(timeout=30)
    os.killpg(process.pid, signal.SIGKILL)
    assert code == pytest.ExitCode.TESTS_FAILED, printed


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_variant_that_kills_the_process_is_buggy(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the audit: with the recipe, whoever ran the test. What the child covered is counted all the same."""
    (tmp_path / "dying.py").write_text(
        "import os\nfrom dataclasses import dataclass\nimport lora_lite as ll\n"
        "@dataclass(frozen=True, kw_only=True)\nclass DyingConfig(ll.LoRAConfig):\n    variant = 'dying'\n"
        "@ll.register\nclass Dying(ll.VARIANTS['lora']):\n    name, config_class = 'dying', DyingConfig\n"
        "    def adapt_output(self, x, y, layer):\n        os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}")
    kept = tmp_path / "kept"
    options = ("--variant-module=dying", "--variant=dying", "--variant=ia3", f"--record={kept}", *MODES[mode])
    claims = "properties/claims/test_formula.py"
    code, printed, data = run_audit(tmp_path / "audit", claims, *options, "-k", "row_of or earlier_batch")
    assert code == pytest.ExitCode.TESTS_FAILED, printed
    assert {block["variant"]: block["verdict"] for block in data["blocks"]} == {
        "ia3": "PARTIAL",
        "dying": "BUGGY",
    }
    (fix,) = data["must_fix"]
    assert fix["suspects"][0]["place"].endswith("dying.py:11 Dying.adapt_output")
    for failure in fix["failures"]:
        assert failure["why"].startswith("killed by SIGABRT\n")
        assert "in adapt_output" in failure["why"]
        assert failure["recipe"]
        assert failure["state"] == "crashed"
        # The same case and no other: nobody could draw it again without a seed.
        named = re.search(r"-k dying-\w+-(\w{8})$", failure["replay"])
        assert named, failure["replay"]
        (path,) = kept.glob(f"*-{named[1]}.json")
        assert read(path).error == "DiedError: killed by SIGABRT"
    if mode == "alone":
        # A worker of xdist that dies sends nothing.
        (file,) = [file for file in data["gaps"]["files"] if file["path"] == "lora_lite/adapter.py"]
        assert file["lines_run"] > file["lines"] / 2


def test_a_journal_tells_the_recipe_of_the_test_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faulthandler.is_enabled", lambda: False)
    kept = Journal(tmp_path / "one")
    test = Entry("test_it.py::test[é]", "identity_at_init", "hra", "init")
    for recipe in ("x" * 100_000, "λ"):
        kept.write(replace(test, recipe=recipe))
    assert journal.read(tmp_path / "one", test.nodeid) == (replace(test, recipe="λ"), [])
    assert journal.read(tmp_path / "one", "test_it.py::other") == (Entry("test_it.py::other"), [])
    kept.write(test)
    assert journal.read(tmp_path / "one", test.nodeid) == (test, [])
    assert journal.read(tmp_path / "none", test.nodeid) == (Entry(test.nodeid), [])
    kept.file.close()
    kept.stack.close()


def test_an_end_is_told_by_the_name_of_its_signal() -> None:
    assert how_it_ended(-signal.SIGTERM) == ("killed by SIGTERM", "SIGTERM")
    assert how_it_ended(-40) == ("killed by signal 40", "signal 40")
    assert how_it_ended(None) == ("ended without a report", None)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("usepdb", True, "--pdb or --trace"),
        ("setupshow", True, "--setup-show"),
        ("device", "cuda", "--device cuda"),
    ],
)
def test_what_a_child_cannot_do_stays_in_the_process(
    option: str, value: object, reason: str, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here pytest itself may be traced, which is the last of the reasons."""
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    monkeypatch.setattr(pytestconfig.option, option, value)
    assert in_process(pytestconfig) == reason
