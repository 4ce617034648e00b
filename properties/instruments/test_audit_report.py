"""The report says what was measured: a dash where nothing was, whose figures they are, every failure with its
recipe.
"""

import html
import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest

import lora_lite as ll
from properties.audit import start
from properties.audit.collect import failure_of
from properties.audit.evidence import Evidence
from properties.audit.judge import judge
from properties.audit.measure import measure
from properties.audit.render import markdown, others, page, share
from properties.audit.report import FAILS, NO_REFERENCE, OK, UNMEASURED, Failure, Finding, Measured
from properties.audit.speed import read as read_speed
from properties.audit.tracing import Function, Tracer, function_of, functions
from properties.audit.wording import counted
from properties.instruments.sample_audit import PROVENANCE

pytestmark = pytest.mark.instruments


def test_a_figure_that_was_not_measured_is_a_dash() -> None:
    """No equality where there is no oracle or a crash, no oracle missed where only its test did not run, no
    picture no None.
    """
    record = measure("params_are_as_declared", "lora")
    report = judge(Evidence(records={"facts": [record]}), None, PROVENANCE, ["lora"])
    for text in (markdown(report), page(report)):
        assert not re.search(r"No oracle\.|\| no oracle \||<figure>None|\bNone\b</", text)
        assert "not measured in this run" in text.lower()
    shown = [
        share(Finding(*made))
        for made in ((OK,), (OK, 0.5), (FAILS, None, "crash"), (NO_REFERENCE,), (UNMEASURED,))
    ]
    assert shown == ["=", "0.5", "–", "–", "–"]


def test_must_fix_names_every_claim_with_its_recipe() -> None:
    """Of several variants that fail in one way each has an entry, and in it each claim its recipe."""
    found = Evidence()
    for variant in ("dora", "hra"):
        for claim in ("gradients_agree_with_the_oracle", "identity_at_init"):
            told = f"off by one\nrecipe   Case(variant='{variant}', of='{claim}')"
            found.failures.append(failure_of(f"properties/test_it.py::test_{claim}[{variant}]", told))
    report = judge(found, None, PROVENANCE, ["dora", "hra"])
    assert [fix.variant for fix in report.must_fix] == ["dora", "hra"]
    assert [fix.suspect.partition(":")[0] for fix in report.must_fix] == [
        f"lora_lite/variants/{v}.py" for v in ("dora", "hra")
    ]
    for failure in found.failures:
        assert str(failure.recipe) in markdown(report)
        assert html.escape(str(failure.recipe), quote=False).replace("'", "&#39;") in page(report)


LAYER = "AdaptedLayer(variant='lora', of=1)"


def failed(claim: str, recipe: str = "") -> Failure:
    """Of lora."""
    told = f"{claim} [lora]\n{claim.upper()}\ngot 1  wanted 2\nworst at 0" + (
        f"\nrecipe   {recipe}" if recipe else ""
    )
    return failure_of(f"properties/test_it.py::test_{claim}[lora]", told, left=["measured"])


def test_an_entry_is_headed_by_the_smallest_case_of_one_layer() -> None:
    """And what left no trace of the variant's code points nowhere: it has no entry where another failure has
    one.
    """
    forward, compiled = (
        failed("forward_agrees_with_the_oracle", LAYER),
        failed("compiled_output_and_gradients_are_the_oracles"),
    )
    real = failed("forward_agrees_with_the_oracle_on_real_weights", "Short()")
    whole = failed("merged_model_agrees_with_the_oracle", "Short()")
    again = failed("merged_model_agrees_with_the_oracle", "Longer()")
    other, hook = functions()[0], function_of(ll.LoRA.adapt_output)
    assert hook is not None
    ran = {hook: {f.nodeid for f in (forward, real, whole)}, other: {compiled.nodeid}}

    class Traced(Tracer):
        def tests_of(self) -> dict[Function, set[str]]:
            return ran

    found = Evidence(failures=[compiled, real, whole, again, forward])
    report = judge(found, Traced(), PROVENANCE, ["lora"])
    (fix,) = report.must_fix
    assert (fix.suspect, fix.failures[0]) == (str(hook), forward)
    assert [failure.claim for failure in others(fix)] == [real.claim, whole.claim, compiled.claim]
    ran.clear()
    (alone,) = judge(replace(found, failures=[compiled]), Traced(), PROVENANCE, ["lora"]).must_fix
    assert alone.failures == [compiled]


def test_a_reason_says_what_does_not_hold_and_simple_claims_come_first() -> None:
    """The identity is told under init; a column that fails shows no figure of what holds beside it."""
    failures = [
        *(failed(claim) for claim in ("a_handle_of_a_model_that_is_gone", "identity_at_init")),
        failed("first_gradients_are_as_declared"),
        failed("gradients_in_a_whole_model_agree_with_the_oracle", LAYER),
        failed("gradients_agree_with_the_oracle", LAYER + " " * 9),
    ]
    held = Measured("base_keeps_every_bit", "lora", 3, {"float32": 0.01})
    (block,) = judge(Evidence(failures=failures, measured=[held]), None, PROVENANCE, ["lora"]).blocks
    assert (block.columns["other"].state, block.columns["other"].figure) == (FAILS, None)
    assert (
        block.columns["gradient"].why
        == "does not hold: gradients agree with the oracle: GRADIENTS_AGREE_WITH_THE_ORACLE: got 1 wanted 2"
    )
    assert block.columns["init"].why.startswith(
        "does not hold: identity at init: IDENTITY_AT_INIT: got 1 wanted 2"
    )
    report = judge(
        Evidence(failures=failures, records={"facts": [measure("params_are_as_declared", "lora")]}),
        None,
        PROVENANCE,
        ["lora"],
    )
    for text in (markdown(report), page(report)):
        assert text.count("does not hold: first gradients are as declared") >= 2


@pytest.mark.parametrize(("n", "told"), [(0, "0 properties"), (1, "1 property"), (2, "2 properties")])
def test_numbers_agree_with_their_nouns(n: int, told: str) -> None:
    assert counted(n, "property") == told
    assert counted(n, "day").endswith("day" if n == 1 else "days")


def test_torchs_trace_is_no_part_of_a_failures_log(caplog: pytest.LogCaptureFixture) -> None:
    """It is for a file that torch writes on request: hundreds of empty lines a compilation."""
    logging.getLogger("torch.__trace").debug("")
    logging.getLogger("properties").warning("ours")
    assert [record.name for record in caplog.records] == ["properties"]


SPEED = {"rows": [], "made": "2026-01-01", "machine": {"device": "cpu"}}


@pytest.mark.parametrize(
    "content",
    ["{", "[]", json.dumps({"rows": []}), json.dumps(SPEED | {"rows": [{"variant": "hra"}]})],
    ids=["no JSON", "a list", "no date", "half a row"],
)
def test_figures_of_speed_are_checked_before_anything_runs(
    content: str, tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / "speed.json").write_text(content)
    monkeypatch.setattr(pytestconfig.option, "speed", str(path))
    with pytest.raises(pytest.UsageError, match=r"speed\.json holds no figures of speed"):
        start(pytestconfig)


def test_figures_of_speed_are_said_to_be_another_runs(tmp_path: Path) -> None:
    """With its date and machine; without them every figure is this run's."""
    size = {
        "d": 8,
        "r": 2,
        "tokens": 4,
        "dtype": "float32",
        "threads": 1,
        "phase": "forward",
        "samples": 2,
        "dropped": 0,
    }
    row = {**size, "variant": "hra", "implementation": "lora_lite", "ratio": 2.0, "q1": 1.9, "q3": 2.1}
    (path := tmp_path / "speed.json").write_text(json.dumps(SPEED | {"rows": [row]}))
    for speed in (None, read_speed(path)):
        report = judge(Evidence(speed=speed), None, PROVENANCE, ["hra"])
        assert ("which another run wrote" in page(report)) == (speed is not None)
        for text in (markdown(report), page(report)):
            assert ("measured 2026-01-01 on device cpu" in text) == (speed is not None)
