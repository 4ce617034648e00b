"""The report says what was measured: a dash where nothing was, whose figures they are, every failure with its recipe."""

import html
import json
import re
from pathlib import Path

import pytest

from properties.audit import start
from properties.audit.collect import failure_of
from properties.audit.evidence import Evidence
from properties.audit.judge import judge
from properties.audit.measure import measure
from properties.audit.render import markdown, page, share
from properties.audit.report import FAILS, NO_REFERENCE, OK, UNMEASURED, Finding
from properties.audit.speed import read as read_speed
from properties.audit.wording import counted
from properties.audited import PROVENANCE


def test_a_figure_that_was_not_measured_is_a_dash() -> None:
    """No equality where there is no oracle or a crash, no oracle missed where only its test did not run, no picture no None."""
    record = measure("params_are_as_declared", "lora")
    report = judge(Evidence(records={"facts": [record]}), None, PROVENANCE, ["lora"])
    for text in (markdown(report), page(report)):
        assert not re.search(r"No oracle\.|\| no oracle \||<figure>None|\bNone\b</", text)
        assert "not measured in this run" in text.lower()
    shown = [share(Finding(*made)) for made in ((OK,), (OK, 0.5), (FAILS, None, "crash"), (NO_REFERENCE,), (UNMEASURED,))]
    assert shown == ["=", "0.5", "–", "–", "–"]


def test_must_fix_names_every_claim_with_its_recipe() -> None:
    """Of several variants that fail in one way each has an entry of its own; under it, each claim its recipe."""
    found = Evidence()
    for variant in ("dora", "hra"):
        for claim in ("gradients_agree_with_the_oracle", "identity_at_init"):
            told = f"off by one\nrecipe   Case(variant='{variant}', of='{claim}')"
            found.failures.append(failure_of(f"properties/test_it.py::test_{claim}[{variant}]", told))
    report = judge(found, None, PROVENANCE, ["dora", "hra"])
    assert [fix.variant for fix in report.must_fix] == ["dora", "hra"]
    assert [fix.suspect.partition(":")[0] for fix in report.must_fix] == [f"lora_lite/variants/{v}.py" for v in ("dora", "hra")]
    for failure in found.failures:
        assert str(failure.recipe) in markdown(report)
        assert html.escape(str(failure.recipe), quote=False).replace("'", "&#39;") in page(report)


@pytest.mark.parametrize(("n", "told"), [(0, "0 properties"), (1, "1 property"), (2, "2 properties")])
def test_numbers_agree_with_their_nouns(n: int, told: str) -> None:
    assert counted(n, "property") == told
    assert counted(n, "day").endswith("day" if n == 1 else "days")


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
    size = {"d": 8, "r": 2, "tokens": 4, "dtype": "float32", "threads": 1, "phase": "forward", "samples": 2, "dropped": 0}
    row = {**size, "variant": "hra", "implementation": "lora_lite", "ratio": 2.0, "q1": 1.9, "q3": 2.1}
    (path := tmp_path / "speed.json").write_text(json.dumps(SPEED | {"rows": [row]}))
    for speed in (None, read_speed(path)):
        report = judge(Evidence(speed=speed), None, PROVENANCE, ["hra"])
        assert ("which another run wrote" in page(report)) == (speed is not None)
        for text in (markdown(report), page(report)):
            assert ("measured 2026-01-01 on device cpu" in text) == (speed is not None)
