"""The audit is believed no more than what it audits: with a mutant on, the right figure moves, and nothing else turns red."""

import dataclasses
import json
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

import lora_lite as ll
from properties.assertions import Violation
from properties.audit import documents, start, worth
from properties.audit.collect import failure_of
from properties.audit.evidence import Evidence
from properties.audit.inject import injected
from properties.audit.judge import COLUMNS, applicable, judge
from properties.audit.measure import PARTS, failing, measure
from properties.audit.provenance import versions
from properties.audit.render import markdown, page, validate
from properties.audit.report import (
    BUGGY,
    CORRECT,
    FAILS,
    NO_REFERENCE,
    OK,
    PARTIAL,
    SCHEMA,
    UNMEASURED,
    Block,
    Measured,
    MutantRow,
    Provenance,
    Report,
    Worth,
)
from properties.audit.terminal import summary
from properties.audit.tracing import Function, Tracer, function_of, suspect
from properties.mutants import load_catalogue
from properties.mutants.matrix import Cell, Row, budget
from properties.oracles import ORACLES
from properties.probe.record import Record, to_json
from properties.registry import load_properties

PROVENANCE = Provenance("pytest properties --audit audit", versions(), "dev", 10, "random", 1.0, {"passed": 1}, None, "", "")
FEW = ("forward_agrees_with_the_oracle", "identity_at_init", "save_load_keeps_every_bit", "merged_layer_agrees_with_the_oracle")


def run(
    variants: Iterable[str], claims: Iterable[str] = (), *, facts: Iterable[str] = tuple(PARTS), mutant: str | None = None
) -> tuple[Evidence, Tracer]:
    """What a run of the facts and of these properties leaves behind."""
    found, tracer = Evidence(), Tracer()
    with injected(mutant) if mutant else nullcontext():
        for variant in variants:
            for claim in (*facts, *claims):
                nodeid = f"properties/test_it.py::test_{claim}[{variant}]"
                found.ran.add((claim, variant))
                with tracer.during(nodeid):
                    if told := _failed(found, claim, variant):
                        found.failures.append(failure_of(nodeid, told))
                    else:
                        found.passed.add(nodeid)
    return found, tracer


def _failed(found: Evidence, claim: str, variant: str) -> str | None:
    if claim in PARTS:
        record = json.loads(json.dumps(measure(claim, variant)))
        found.records.setdefault("facts", []).append(record)
        return "\n".join(failing(record))
    try:
        meter = load_properties()[claim].run(variant, budget(20, shrink=True))
    except Violation as violation:
        found.measured.append(Measured(claim, variant, None, {}))
        return str(violation)
    found.measured.append(Measured(claim, variant, meter.examples, meter.worst))
    return None


def audit(variants: Iterable[str], claims: Iterable[str] = (), *, traced: bool = False, **how: Any) -> Report:
    """The report of run()."""
    variants = list(variants)
    found, tracer = run(variants, claims, **how)
    return judge(found, tracer if traced else None, PROVENANCE, variants)


def block(report: Report, variant: str) -> Block:
    return next(b for b in report.blocks if b.variant == variant)


@pytest.mark.parametrize(
    ("column", "on", "mutant"),
    [
        ("params", "lora", "lora_A_declared_to_learn_at_once"),
        ("init", "pissa", "pissa_bottom_directions"),
        ("dtype", "hra", "hra_declared_exact"),
        ("forward", "lora", "lora_scale_lost"),
        ("gradient", "dora", "dora_gradient_through_the_norm"),
        ("round_trip", "lora", "save_rounds_to_bfloat16"),
    ],
)
def test_a_mutant_turns_its_column_red(column: str, on: str, mutant: str) -> None:
    """By facts that are measured: the same column is ok, with another figure, without it."""
    before, after = (block(audit([on], mutant=name), on).columns[column] for name in (None, mutant))
    assert before.state == OK
    assert after.state == FAILS
    assert after.why
    assert before.figure is None or before.figure < 0.5
    assert after.figure is None or after.figure > 1


@pytest.mark.parametrize(
    ("claim", "on", "mutant"),
    [("the_handle_lists_what_is_trainable", "lora", "base_not_frozen")],
)
def test_a_mutant_of_the_runtime_turns_the_last_column_red(claim: str, on: str, mutant: str) -> None:
    columns = block(audit([on], [claim], mutant=mutant), on).columns
    assert {name for name, found in columns.items() if found.state == FAILS} == {"other"}


OWN = {
    "lora": "lora_update_subtracted",
    "pissa": "pissa_scale_lost",
    "dora": "dora_norm_of_W_alone",
    "delora": "delora_column_norms_lost",
    "ia3": "ia3_gate_twice",
    "ia3_ff": "ia3_ff_gate_twice",
    "hra": "hra_reflections_in_reverse",
    "eva": "eva_inputs_not_centred",
    "antipasto": "antipasto_turns_V_backwards",
}


@pytest.mark.parametrize(("on", "mutant"), OWN.items())
def test_exactly_the_mutants_variants_turn_buggy(on: str, mutant: str) -> None:
    """All built-in variants are judged by their facts; without oracles nobody could say."""
    assert load_catalogue()[mutant].applies_to == (on,)
    # But for the heat map, which takes longer than all the others together.
    facts = [claim for claim, (part, _) in PARTS.items() if part != "dtype"]
    report = audit(OWN, facts=facts, mutant=mutant)
    assert [b.variant for b in report.blocks if b.verdict == BUGGY] == [on]
    assert report.verdict == BUGGY


@pytest.mark.parametrize(
    ("mutant", "claim", "place"),
    [
        ("lora_scale_lost", "forward_agrees_with_the_oracle", "lora_lite/variants/lora.py"),
        ("lora_inits_swapped", "init_is_as_the_oracle_claims", "lora_lite/variants/lora.py"),
        ("save_rounds_to_bfloat16", "save_load_keeps_every_bit", "lora_lite/checkpoint.py"),
        ("merge_adds_the_update_twice", "merged_layer_agrees_with_the_oracle", "lora_lite/merging.py"),
    ],
)
def test_must_fix_names_file_property_and_shrunk_recipe(mutant: str, claim: str, place: str) -> None:
    """The file is that of the mutated function, found by what failing and passing tests have run."""
    report = audit(["ia3", "lora"], FEW, mutant=mutant, traced=True)
    fixes = [fix for fix in report.must_fix if fix.variant == "lora"]
    assert place in {fix.suspect.partition(":")[0] for fix in fixes}
    told = {failure.claim: failure for fix in fixes for failure in fix.failures}
    assert claim in told
    if claim in FEW:
        assert "variant='lora'" in str(told[claim].recipe)
    for text in (markdown(report), page(report)):
        assert place in text
        assert claim.replace("_", " ") in text


def test_correct_means_that_everything_was_measured() -> None:
    """The same facts without the properties are PARTIAL, and say so."""
    (lora,) = audit(["lora"]).blocks
    assert (lora.verdict, len(lora.unrun)) == (PARTIAL, len(applicable("lora")))
    found, _ = run(["lora"])
    for claim in load_properties().values():
        found.ran.add((claim.name, "lora" if claim.cases else None))
        found.measured.append(Measured(claim.name, "lora", 1, {}))
    report = judge(found, None, PROVENANCE, ["lora"])
    assert report.blocks[0].verdict == CORRECT
    assert report.verdict == CORRECT
    assert report.library.state == OK


def test_what_was_not_measured_is_never_ok() -> None:
    report = judge(Evidence(), None, PROVENANCE, ["hra"])
    states = {name: found.state for name, found in report.blocks[0].columns.items()}
    assert states == {name: OK if name == "has_ref" else UNMEASURED for name in COLUMNS}
    assert report.blocks[0].verdict == PARTIAL
    assert report.gaps.share is None
    assert all(link.status != "OK" for link in report.links)
    for text in (markdown(report), page(report)):
        assert "not measured in this run" in text.lower()


def test_a_variant_without_reference_is_partial_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ll.LoRA, "reference", None)
    monkeypatch.delitem(ORACLES, "lora")
    (lora,) = audit(["lora"]).blocks
    assert (lora.reference.verdict, lora.reference.severity, lora.verdict) == ("NO_REFERENCE", "HIGH", PARTIAL)
    assert {name for name, found in lora.columns.items() if found.state == NO_REFERENCE} == {
        *("has_ref", "init", "forward", "gradient")
    }


def test_a_claim_about_the_library_counts_for_the_variants_that_it_names() -> None:
    for message, verdicts in (("dora: refused", [BUGGY, PARTIAL]), ("nothing named", [PARTIAL, PARTIAL])):
        found = Evidence(failures=[failure_of("properties/test_files.py::test_a_damaged_file_is_refused", message)])
        report = judge(found, None, PROVENANCE, ["dora", "hra"])
        assert [b.verdict for b in report.blocks] == verdicts
        assert report.library.state == FAILS
        assert report.verdict == BUGGY
        assert [fix.variant for fix in report.must_fix] == [None]


def test_a_survivor_is_something_to_add_and_no_fault_of_the_library() -> None:
    cells = [Cell("identity_at_init", "lora_scale_lost", "lora", "survived", 6)]
    found = Evidence(rows=[Row("lora_scale_lost", cells)])
    found.failures.append(failure_of("properties/test_mutants.py::test_mutant_is_killed[lora_scale_lost]", "survives"))
    report = judge(found, None, PROVENANCE, ["lora"])
    assert report.must_fix == []
    assert any("lora_scale_lost" in item for item in report.must_add)


def test_the_worth_of_a_property_is_counted_from_the_matrix() -> None:
    """Catches, alone, noise and signal; each side of the tolerance has its verdict."""

    def identity(noise: float, signal: float, also: str = "survived") -> Worth:
        cells = [
            Cell("identity_at_init", "m", "hra", "killed", 1, signal={"float32": signal}),
            Cell("base_keeps_every_bit", "m", "hra", also),
        ]
        measured = [Measured("identity_at_init", "hra", 9, {"float32": noise})]
        found = worth.worths(measured, [Row("m", cells)], ["identity_at_init"])
        return next(w for w in found if w.claim == "identity_at_init")

    assert [identity(0.1, 100).tolerance, identity(0.1, 5).tolerance, identity(0.7, 100).tolerance] == [
        *("sound", "too loose", "too tight")
    ]
    assert (identity(0.1, 100).kills, identity(0.1, 100).alone, identity(0.1, 100, "killed").alone) == (["m"], ["m"], [])
    (unjudged,) = worth.worths([], [], ["identity_at_init"])
    assert (unjudged.tolerance, unjudged.earns) == ("not measured", "not measured")


def test_gaps_close_when_a_test_runs_the_code() -> None:
    """Coverage of a file rises with what ran, and an import counts as run."""
    idle, busy = Tracer(), run(["ia3"])[1]
    for tracer in (idle, busy):
        tracer.imported()
    lines = [{f.path: f for f in tracer.files()}["lora_lite/variants/ia3.py"] for tracer in (idle, busy)]
    assert 0 < lines[0].lines_run < lines[1].lines_run == lines[1].lines
    assert lines[0].missing
    assert idle.dumps() != busy.dumps()
    idle.add(busy.dumps())
    assert idle.files() == busy.files()


def test_functions_that_no_mutant_changes_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(function_of(ll.LoRA.adapt_output))
    assert name not in worth.gaps(None).untouched
    monkeypatch.setattr(worth, "load_catalogue", dict)
    everything = worth.gaps(None)
    assert name in everything.untouched
    assert len(everything.untouched) == everything.functions


def test_the_suspect_is_what_failing_tests_run_and_passing_ones_do_not() -> None:
    broken, shared, other = (Function("lora_lite/a.py", name, 1, 1, 2, 3) for name in ("broken", "shared", "other"))
    ran = {broken: {"red", "red2"}, shared: {"red", "red2", "green"}, other: {"green"}}
    assert suspect(ran, {"red", "red2"}, {"green"}, other) == broken
    assert suspect(ran | {broken: set()}, {"red"}, set(), None) == shared
    assert suspect({}, {"red"}, set(), other) == other


def test_a_crash_is_told_with_its_recipe() -> None:
    text = "    raise ValueError\nE   ValueError: no\nE   recipe   AdaptedLayer(variant='hra')\nE   replay   pytest x\n"
    told = failure_of("properties/test_identity.py::test_identity_at_init[hra]", text, "ValueError: no")
    assert (told.recipe, told.replay, told.message) == ("AdaptedLayer(variant='hra')", "pytest x", "ValueError: no")
    assert (told.claim, told.variant, told.kind) == ("identity_at_init", "hra", "property")


def test_the_schema_refuses_what_is_no_report() -> None:
    data = audit(["ia3"]).to_json()
    validate(data)
    changes: list[dict[str, Any]] = [{"verdict": "FINE"}, {"blocks": [{}]}, {"more": 1}]
    for wrong in changes:
        with pytest.raises(jsonschema.ValidationError):
            validate(data | wrong)
    with pytest.raises(jsonschema.ValidationError):
        validate({name: value for name, value in data.items() if name != "links"})


def test_the_schema_knows_every_field() -> None:
    """What the dataclasses hold, the schema describes."""
    schema = json.loads(SCHEMA.read_text("utf-8"))
    assert set(schema["required"]) == {f.name for f in dataclasses.fields(Report)} | {"verdict"}
    assert set(schema["$defs"]["Block"]["required"]) == {f.name for f in dataclasses.fields(Block)}


def test_every_built_in_variant_documents_itself() -> None:
    for name in OWN:
        about = documents.of_variant(ll.VARIANTS[name])
        assert about.title
        assert "y = " in about.formula
        assert set(about.sections) == set(documents.SECTIONS)
        assert documents.oracle_formula(name)
        assert "def adapt_" in documents.source_of(ll.VARIANTS[name])
        assert "def forward" in documents.oracle_source(name)


def test_the_summary_fits_a_ci_job() -> None:
    """At most 60 lines a variant, and with every mutant of the catalogue below a megabyte."""
    report = audit(OWN)
    claims = [p.name for p in load_properties().values()]
    first = {"claim": claims[0], "variant": "lora", "examples": 3, "recipe": "AdaptedModel(" + "x" * 900 + ")"}
    mutants = [
        MutantRow(m.name, m.breaks, m.models, list(m.applies_to), dict.fromkeys(claims, "killed"), claims, [], first, 0.1)
        for m in load_catalogue().values()
    ]
    text = markdown(replace(report, mutants=mutants))
    assert len(text.encode()) < 1_000_000
    blocks = text.partition("# A. Variants")[2].partition("# B. Can the checks see?")[0].split("\n## ")[1:]
    assert len(blocks) == len(OWN)
    assert max(len(b.splitlines()) for b in blocks) <= 60
    assert "killed" not in summary(report)


@pytest.mark.parametrize(("option", "given"), [("mutant", "no_such"), ("speed", "no_such.json")])
def test_what_is_not_there_is_refused_at_once(
    option: str, given: str, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything runs, and not at the end."""
    monkeypatch.setattr(pytestconfig.option, option, given)
    with pytest.raises(pytest.UsageError, match=f"--{option}.*{given}"):
        start(pytestconfig)


def test_the_probe_is_told_by_its_tightest_figure() -> None:
    """One row an assertion, with what it catches; a failing figure before any other, and no number is no pass."""

    def record(value: float, variant: str) -> Record:
        return Record("learning beats noise: random steps", variant, "tiny", value, ">", 0.5, "why")

    for values, got, holds in (((0.9, 0.6), 0.6, 2), ((0.9, 0.4), 0.4, 1), ((float("nan"), 0.51), None, 1)):
        records = json.loads(to_json(record(value, variant) for value, variant in zip(values, ("hra", "dora"), strict=True)))
        (told,) = judge(Evidence(records={"probe": records}), None, PROVENANCE, ["hra"]).probe
        assert (told.got, told.holds, told.measured, told.wanted) == (got, holds, 2, "> 0.5")
        assert "luck" in told.catches


def test_a_capability_is_as_good_as_the_worst_that_was_shown() -> None:
    records = [{"variant": "hra", "name": "compile", "outcome": outcome} for outcome in ("yes", "refused: no", "yes")]
    report = judge(Evidence(records={"capability": records}), None, PROVENANCE, ["hra"])
    cells = {cell["name"]: cell["outcome"] for cell in report.capabilities}
    assert cells["compile"] == "refused: no"
    assert set(cells.values()) == {"refused: no", "not measured"}
