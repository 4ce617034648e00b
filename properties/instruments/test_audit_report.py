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
from lora_lite import merging
from properties.audit import start
from properties.audit.evidence import Evidence
from properties.audit.judge import judge
from properties.audit.render import markdown, others, page, state_text
from properties.audit.report import Fix, Stage
from properties.audit.speed import read as read_speed
from properties.audit.tracing import Function, Tracer, function_of, functions
from properties.audit.wording import counted
from properties.instruments.sample_audit import PORTRAIT, PROVENANCE, audit, everything_held
from properties.judging.claim import load_claims
from properties.judging.outcome import BROKEN, CRASHED, NOT_APPLICABLE, Frame, Outcome

pytestmark = pytest.mark.instruments


def test_a_figure_that_was_not_measured_is_a_dash() -> None:
    """No equality where there is no oracle or a crash, no picture no None."""
    report = audit(["lora"], PORTRAIT[:1])
    for text in (markdown(report), page(report)):
        assert not re.search(r"No oracle\.|\| no oracle \||<figure>None|\bNone\b</", text)
        assert "not measured in this run" in text.lower()
    shown = [state_text(Stage(*made)) for made in (("held", 3), ("not judged", 2, 0, 1), ("not applicable",))]
    assert shown == ["✓ 3", "? 2/3", "–"]


def failed(claim: str, recipe: str | None = None, variant: str = "lora") -> Outcome:
    """Of one claim on one method."""
    of = load_claims()[claim]
    nodeid = f"properties/claims/test_it.py::test_{claim}[{variant}]"
    why = f"{claim.upper()}: got 1, wanted 2"
    return Outcome(
        claim, variant, of.stage, BROKEN, why, budget=60, recipe=recipe, replay="pytest x", nodeid=nodeid
    )


def test_must_fix_names_every_claim_with_its_recipe() -> None:
    """Of several variants that fail in one way each has an entry, and in it each claim its recipe."""
    found = Evidence()
    for variant in ("dora", "hra"):
        for claim in ("gradients_agree_with_the_oracle", "identity_at_init"):
            found.outcomes.append(failed(claim, f"Case(variant='{variant}', of='{claim}')", variant))
    report = judge(found, None, PROVENANCE, ["dora", "hra"])
    assert [fix.method for fix in report.must_fix] == ["dora", "hra"]
    for fix in report.must_fix:
        # No trace was taken, and a guess is no evidence.
        assert fix.suspects == []
    for failure in found.outcomes:
        assert str(failure.recipe) in markdown(report)
        assert html.escape(str(failure.recipe), quote=False).replace("'", "&#39;") in page(report)


def traced(lines: dict[str, frozenset[tuple[str, int]]]) -> Tracer:
    """A tracer that has seen each test run these lines."""

    class Traced(Tracer):
        def lines_of(self) -> dict[str, frozenset[tuple[str, int]]]:
            return lines

    return Traced()


def test_a_place_that_several_methods_lead_to_is_the_librarys() -> None:
    """Unless it lies in a method's own file; and one method alone keeps its entry."""
    merged, scaled = function_of(merging._sharing), function_of(ll.LoRA.adapt_output)
    assert merged is not None
    assert scaled is not None
    red = [failed("merged_layer_agrees_with_the_oracle", variant=name) for name in ("hra", "dora")]

    def fixed(at: Function, failures: list[Outcome]) -> list[Fix]:
        ran = traced({failure.nodeid: frozenset({(at.path, at.last)}) for failure in failures})
        return judge(Evidence(failures), ran, PROVENANCE, ["dora", "hra"]).must_fix

    (fix,) = fixed(merged, red)
    assert fix.method is None
    assert fix.suspects[0].place.startswith("lora_lite/merging.py:")
    assert {failure.method for failure in fix.failures} == {"dora", "hra"}
    assert [fix.method for fix in fixed(merged, red[:1])] == ["hra"]
    assert [fix.method for fix in fixed(scaled, red)] == ["dora", "hra"]


def test_a_dead_process_leads_to_where_it_stood() -> None:
    """It left no trace: the innermost frame in code that is judged tells."""
    merged = function_of(merging._sharing)
    assert merged is not None
    stack = [
        Frame("torch/nn/modules/linear.py", 7, "forward"),
        Frame(merging.__file__, merged.body, "_sharing"),
    ]
    dead = [
        replace(failed("merged_layer_agrees_with_the_oracle", variant=name), state=CRASHED, stack=stack)
        for name in ("hra", "dora")
    ]
    (fix,) = judge(Evidence(dead), None, PROVENANCE, ["dora", "hra"]).must_fix
    assert fix.method is None
    assert fix.suspects[0].place.startswith("lora_lite/merging.py:")
    assert fix.suspects[0].place.endswith(" _sharing")


LAYER = "AdaptedLayer(variant='lora', of=1)"


def test_an_entry_is_headed_by_the_smallest_case_of_one_layer() -> None:
    """And what left no trace of the variant's code points nowhere: it has no entry where another failure has
    one.
    """
    forward = failed("forward_agrees_with_the_oracle", LAYER)
    compiled = failed("compiled_output_and_gradients_are_the_oracles")
    real = failed("forward_agrees_with_the_oracle_on_real_weights", "Short()")
    whole = failed("merged_model_agrees_with_the_oracle", "Short()")
    again = failed("merged_model_agrees_with_the_oracle", "Longer()")
    other, hook = functions()[0], function_of(ll.LoRA.adapt_output)
    assert hook is not None
    lines = {f.nodeid: frozenset({(hook.path, hook.last)}) for f in (forward, real, whole, again)}
    lines[compiled.nodeid] = frozenset({(other.path, other.last)})
    found = Evidence([compiled, real, whole, again, forward])
    report = judge(found, traced(lines), PROVENANCE, ["lora"])
    (fix,) = report.must_fix
    assert (fix.suspects[0].place, fix.failures[0]) == (f"{hook.path}:{hook.last} {hook.name}", forward)
    assert [failure.claim for failure in others(fix)] == [whole.claim, real.claim, compiled.claim]
    lines.clear()
    (alone,) = judge(Evidence([compiled]), traced(lines), PROVENANCE, ["lora"]).must_fix
    assert alone.failures == [compiled]


def test_a_reason_names_the_stages_that_fail() -> None:
    failures = [failed("identity_at_init"), failed("gradients_agree_with_the_oracle", LAYER)]
    claims = {claim for o in failures for claim in [o.claim]}
    rest = [o for o in everything_held(["lora"]).outcomes if o.claim not in claims]
    report = judge(Evidence([*rest, *failures]), None, PROVENANCE, ["lora"])
    (block,) = report.blocks
    applies = sum(o.state != NOT_APPLICABLE for o in block.outcomes)
    assert block.reason == f"2 of {applies} claims broken (init, gradient)"
    assert [s for s, found in block.stages.items() if found.state == BROKEN] == ["init", "gradient"]


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
    row = {**size, "variant": "hra", "implementation": "lora_lite", "ratio": 1.141, "q1": 1.136, "q3": 1.149}
    cost = {"variant": "hra", "implementation": "lora_lite", "what": "attach", "value": 4160.2, "unit": "ms"}
    (path := tmp_path / "speed.json").write_text(json.dumps(SPEED | {"rows": [row], "costs": [cost]}))
    for speed in (None, read_speed(path)):
        report = judge(Evidence(speed=speed), None, PROVENANCE, ["hra"])
        assert ("which another run wrote" in page(report)) == (speed is not None)
        for text in (markdown(report), page(report)):
            assert ("measured 2026-01-01 on device cpu" in text) == (speed is not None)
            assert ("what happens once" in text) == (speed is not None)
            for told in ("1.14", "1.14 – 1.15", "4,160"):
                assert (told in text) == (speed is not None)
