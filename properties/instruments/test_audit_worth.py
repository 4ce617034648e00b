"""Part B of the audit: what the checks can see is counted from what ran, and what was not tried is never said
to be known.
"""

import dataclasses
import html
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

import lora_lite as ll
from properties.audit import worth
from properties.audit.evidence import Evidence, Matrix
from properties.audit.judge import judge
from properties.audit.provenance import narrowing
from properties.audit.render import cases, markdown, page
from properties.audit.report import Report, SuiteFailure
from properties.audit.sight import MatrixSource, Worth
from properties.audit.tracing import Tracer, function_of
from properties.instruments.sample_audit import PROVENANCE, run
from properties.judging.claim import load_claims
from properties.judging.outcome import BROKEN, HELD, Outcome
from properties.mutation import load_catalogue
from properties.mutation.matrix import Cell, Row
from properties.mutation.score import stays
from properties.probe.record import Record, to_json
from strategies.options import BUILT_IN

pytestmark = pytest.mark.instruments

CLAIM = "identity_at_init"
# What runs all of a variant's own lines.
EVERYTHING = ("the_tensors_of_a_fixed_layer_are_as_declared",)
ROOT = Path(__file__).parents[2]


def measured(
    variant: str, examples: int, noise: dict[str, float], state: str = HELD, claim: str = CLAIM
) -> Outcome:
    """What a claim left of a method."""
    return Outcome(claim, variant, "init", state, examples=examples, budget=60, worst=noise)


def worth_of(
    noise: dict[str, float],
    *signals: dict[str, float],
    examples: int = 9,
    failed: bool = False,
    also: str = "survived",
) -> Worth:
    """Of a property with this noise, which kills a mutant with each of these signals; `also`: what another
    one does.
    """
    rows = [
        Row(
            f"m{i}",
            [
                Cell(CLAIM, f"m{i}", "hra", "killed", 1, signal=signal),
                Cell("base_keeps_every_bit", f"m{i}", "hra", also),
            ],
        )
        for i, signal in enumerate(signals)
    ]
    outcomes = [measured("hra", examples, noise)] if noise else []
    outcomes += [measured("lora", 1, {}, BROKEN)] if failed else []
    found = worth.worths(outcomes, rows)
    return next(w for w in found if w.claim == CLAIM)


def test_the_worth_of_a_claim_is_counted_from_the_matrix() -> None:
    """Catches, alone, noise and signal; each side of the tolerance has its verdict."""
    quiet, loud, clear, faint = {"float32": 0.1}, {"float32": 0.7}, {"float32": 100.0}, {"float32": 5.0}
    found = [
        worth_of(*sides).tolerance
        for sides in ((quiet, clear), (quiet, faint), (loud, clear), (quiet,), ({}, clear))
    ]
    assert found == ["sound", "too loose", "too tight", "not measured", "not measured"]
    assert (worth_of(quiet, clear).kills, worth_of(quiet, clear).alone) == (["m0"], ["m0"])
    assert worth_of(quiet, clear, also="killed").alone == []
    assert worth_of(quiet, clear).tried == 1
    unmetered = [measured("hra", 9, {})]
    (one_sided,) = worth.worths(unmetered, [Row("m", [Cell(CLAIM, "m", "hra", "killed", 1, signal=clear)])])
    assert one_sided.tolerance == "not measured"
    (unjudged,) = worth.worths(unmetered, [])
    assert (unjudged.tolerance, unjudged.earns, unjudged.tried) == ("exact", "not measured", 0)


def test_each_dtype_is_judged() -> None:
    """A mutant that hides below the rounding of one is caught in another, and the table says both."""
    noise = {"bfloat16": 0.1, "float32": 0.1, "float64": 0.1}
    found = worth_of(noise, {"bfloat16": 0.4, "float32": 300.0})
    assert found.tolerance == "sound"
    assert found.dtypes == {"bfloat16": "hidden", "float32": "sound", "float64": "no signal"}
    assert (found.hidden, found.signal) == ({"bfloat16": ["m0"]}, {"float32": 300.0})
    faint = worth_of(noise, {"bfloat16": 3.0, "float32": 0.2})
    assert (faint.tolerance, faint.signal) == ("too loose", {"bfloat16": 3.0})
    assert faint.dtypes == {"bfloat16": "too loose", "float32": "no signal", "float64": "no signal"}
    report = judge(Evidence(), None, PROVENANCE, ["hra"])
    for text in (markdown, page):
        assert "1 mutant hidden in bfloat16, caught in float32" in text(replaced(report, found))
    both = worth_of(noise | {"float64": 0.6}, {"bfloat16": 0.4, "float32": 300.0}, {"bfloat16": 3.0})
    assert (both.tolerance, both.dtypes["bfloat16"], both.dtypes["float64"]) == (
        "too tight",
        "too loose",
        "too tight",
    )


def replaced(report: Report, *claims: Worth) -> Report:
    return dataclasses.replace(report, claims=list(claims))


def test_noise_says_how_many_cases_it_is_known_from() -> None:
    """And what failed on correct code is neither sound nor exact."""
    noise, signal = {"float32": 0.1}, {"float32": 300.0}
    assert [cases(worth_of(noise, signal, examples=n)) for n in (9, 12_000)] == ["9 (few)", "12,000"]
    assert worth_of(noise, signal, failed=True).tolerance == "fails"
    fact = next(p for p in load_claims().values() if p.cases is None)
    failed = Evidence([Outcome(fact.name, None, fact.stage, BROKEN)])
    (told,) = judge(failed, None, PROVENANCE, ["hra"]).claims
    assert told.tolerance == "fails"


def test_noise_is_of_correct_code() -> None:
    """Of what holds on a variant nothing is taken where another property fails on it: its code is not
    correct.
    """
    hra, lora = measured("hra", 9, {"float32": 0.9}), measured("lora", 5, {"float32": 0.1})
    failure = measured("hra", 1, {}, BROKEN, "base_keeps_every_bit")
    for own, noise, examples, tolerance in (
        ([hra, lora], {"float32": 0.1}, 5, "not measured"),
        ([hra], {}, 0, "not measured"),
    ):
        told = next(w for w in worth.worths([*own, failure], []) if w.claim == CLAIM)
        assert (told.noise, told.examples, told.tolerance) == (noise, examples, tolerance)


def test_what_was_not_tried_is_a_dash_and_no_zero() -> None:
    """Without a matrix nothing catches 0, and the page says why there is none."""
    report = judge(Evidence([measured("hra", 9, {})]), None, PROVENANCE, ["hra"])
    line = next(line for line in markdown(report).splitlines() if line.startswith("| identity at init |"))
    assert [cell.strip() for cell in line.split("|")][2:7] == ["–", "–", "=", "–", "–"]
    wanted = sum(m.equivalent is None and "hra" in m.applies_to for m in load_catalogue().values())
    assert (report.mutation.wanted, report.mutation.rows, report.mutation.matrix) == (wanted, 0, None)
    assert '<td class="number">–</td><td class="number">–</td>' in page(report)
    for text in (markdown(report), page(report)):
        assert f"{wanted} mutants not run" in text


def test_a_matrix_with_rows_missing_says_so_and_why() -> None:
    """A test that failed before its row, and one that failed after it: neither is lost."""
    row = Row("lora_scale_lost", [Cell(CLAIM, "lora_scale_lost", "lora", "killed", 6)])
    found = Evidence(rows=[row], records={"mutant": ["lora_scale_lost", "lora_update_subtracted"]})
    for told in ("replay holds", "InjectionError: occurs 0 times"):
        found.failures.append(SuiteFailure("properties/instruments/test_it.py::test_it", told, ""))
    report = judge(found, None, PROVENANCE, ["lora"])
    assert [failure.message for failure in report.suite] == ["replay holds", "InjectionError: occurs 0 times"]
    assert report.must_fix == []
    assert (report.mutation.rows, report.mutation.caught, report.blocks[0].verdict) == (1, 1, "PARTIAL")
    assert "1 test failed before anything was tried: lora_update_subtracted" in report.mutation.why
    for text in (markdown(report), page(report)):
        assert "Not all were injected" in text
        assert "InjectionError" in text


def test_every_claim_says_which_failures_it_catches() -> None:
    found = worth_of({"float32": 0.1}, {"float32": 300.0}, {"float32": 300.0}, also="killed")
    report = replaced(judge(Evidence(rows=[Row("lora_scale_lost", [])]), None, PROVENANCE, ["lora"]), found)
    for text in (markdown(report), page(report)):
        assert "m0, m1" in text
        assert "second witness of 2; stays: exact where" in text


def test_what_alone_catches_nothing_and_has_no_reason_is_to_be_mended() -> None:
    """Where every claim ran under the whole catalogue; a part of it, and first kills, say nothing."""
    silent = next(name for name in load_claims() if name not in stays())
    names = [m.name for m in load_catalogue().values() if m.equivalent is None]
    of = MatrixSource("", "", True)
    for tried, whole, known in ((names, True, True), (names[1:], True, False), (names, False, False)):
        rows = [Row(n, [Cell(c, n, "lora", "killed", 1) for c in (CLAIM, silent)]) for n in tried]
        found = Evidence(rows=rows, matrix=Matrix(rows, of) if whole else None)
        report = judge(found, None, PROVENANCE, BUILT_IN)
        added = report.must_add
        assert any("caught by others too" in line for line in report.nice_to_have) == known
        assert any(f"why {silent} stays" in line for line in added) == known
        assert not any(f"why {CLAIM} stays" in line for line in added)


def test_gaps_close_when_a_test_runs_the_code() -> None:
    """Coverage of a file rises with what ran, and an import counts as run."""
    idle, busy = Tracer(), run(["ia3"], EVERYTHING)[1]
    for tracer in (idle, busy):
        tracer.imported()
    lines = [{f.path: f for f in tracer.files()}["lora_lite/variants/ia3.py"] for tracer in (idle, busy)]
    assert 0 < lines[0].lines_run < lines[1].lines_run == lines[1].lines
    assert lines[0].missing
    assert idle.dumps() != busy.dumps()
    idle.add(busy.dumps())
    assert idle.files() == busy.files()


@pytest.mark.parametrize("narrowed", ["", "-k 'forward'"])
def test_gaps_are_told_after_a_run_of_everything(narrowed: str) -> None:
    """A run that was told to leave tests out makes no demands on the library, and says so."""
    tracer = Tracer()
    tracer.imported()
    report = judge(Evidence(), tracer, dataclasses.replace(PROVENANCE, narrowed=narrowed), ["hra"])
    demands = [*report.must_add, *report.nice_to_have]
    for demand in ("tests that run", "a mutant in each of", "coverage of lora_lite"):
        assert any(demand in line for line in demands) == (not narrowed)
    assert (report.gaps.share is None) == bool(narrowed)
    for text in (markdown(report), html.unescape(page(report))):
        assert ("this one was narrowed by -k 'forward'" in text) == bool(narrowed)
        assert ("are changed by some mutant" in text) == (not narrowed)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((), []),
        (("-m", "not mutation"), []),
        (
            ("-k", "forward", "-m", "not slow", "--variant=hra"),
            ["-k 'forward'", "-m 'not slow'", "--variant hra"],
        ),
        (("--mutant=lora_scale_lost", "-x"), ["--mutant lora_scale_lost", "-x"]),
        (("properties/claims/test_formula.py",), ["the paths properties/claims/test_formula.py"]),
    ],
)
def test_what_narrows_a_run_is_known(
    given: tuple[str, ...], told: list[str], pytestconfig: pytest.Config
) -> None:
    places = [arg for arg in given if arg.endswith(".py")] or ["properties"]
    options = pytestconfig._parser.parse_known_args([*(arg for arg in given if arg not in places)])
    config = SimpleNamespace(option=options, args=places, invocation_params=SimpleNamespace(dir=ROOT))
    assert narrowing(cast(pytest.Config, config)) == told


def test_functions_that_no_mutant_changes_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(function_of(ll.LoRA.adapt_output))
    assert name not in worth.gaps(None).untouched
    monkeypatch.setattr(worth, "load_catalogue", dict)
    everything = worth.gaps(None)
    assert name in everything.untouched
    assert len(everything.untouched) == everything.functions


def test_a_survivor_is_something_to_add_and_no_fault_of_the_library() -> None:
    cells = [Cell("identity_at_init", "lora_scale_lost", "lora", "survived", 6)]
    found = Evidence(rows=[Row("lora_scale_lost", cells)])
    report = judge(found, None, PROVENANCE, ["lora"])
    assert report.must_fix == []
    assert any("lora_scale_lost" in item for item in report.must_add)


def test_the_probe_is_told_by_its_tightest_figure() -> None:
    """One row an assertion, with what it catches; a failing figure before any other, and no number is no
    pass.
    """

    def record(value: float, variant: str) -> Record:
        return Record("learning beats noise: random steps", variant, "tiny", value, ">", 0.5, "why")

    for values, got, holds in (
        *(((0.9, 0.6), 0.6, 2), ((0.9, 0.4), 0.4, 1), ((0.45, 0.1), 0.1, 0)),
        *(((float("nan"), 0.51), None, 1), ((0.1, float("nan")), None, 0)),
    ):
        records = to_json(
            record(value, variant) for value, variant in zip(values, ("hra", "dora"), strict=True)
        )
        training = Outcome("training_on_minilm", "hra", "training", HELD, shown={"probe": records})
        (told,) = judge(Evidence([training]), None, PROVENANCE, ["hra"]).probe
        assert (told.got, told.holds, told.measured, told.wanted) == (got, holds, 2, "> 0.5")
        assert "luck" in told.catches
