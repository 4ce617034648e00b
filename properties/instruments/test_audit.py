"""The audit is believed no more than what it audits: with a mutant on, the right figure moves, and nothing
else turns red.
"""

import dataclasses
import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

import lora_lite as ll
from properties.audit import documents, start
from properties.audit.collect import failure_of
from properties.audit.columns import COLUMNS
from properties.audit.evidence import Evidence
from properties.audit.fixes import names
from properties.audit.judge import applicable, judge
from properties.audit.measure import PARTS
from properties.audit.render import markdown, page, validate
from properties.audit.report import (
    BUGGY,
    CORRECT,
    FAILS,
    NO_REFERENCE,
    OK,
    PARTIAL,
    PARTLY,
    SCHEMA,
    UNMEASURED,
    Block,
    Measured,
    MutantRow,
    Report,
)
from properties.audit.terminal import summary
from properties.instruments.sample_audit import PROVENANCE, audit, run
from properties.judging.claim import load_properties
from properties.mutation import load_catalogue
from properties.oracles import ORACLES

pytestmark = pytest.mark.instruments
FEW = (
    "forward_agrees_with_the_oracle",
    "identity_at_init",
    "save_load_keeps_every_bit",
    "merged_layer_agrees_with_the_oracle",
)


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
    """By facts that are measured: without it the same column holds, as far as it was run, and what was
    measured is another.
    """
    blocks = [block(audit([on], mutant=name), on) for name in (None, mutant)]
    before, after = (b.columns[column] for b in blocks)
    assert before.state == PARTLY
    assert after.state == FAILS
    assert after.why
    good, bad = (
        {fact: json.dumps(value) for fact, value in dataclasses.asdict(b)["facts"].items()} for b in blocks
    )
    assert good[column] != bad[column]
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
    assert {lora.columns[name].state for name in ("init", "forward", "gradient")} == {PARTLY}
    found, _ = run(["lora"])
    for claim in load_properties().values():
        found.ran.add((claim.name, "lora" if claim.cases else None))
        found.measured.append(Measured(claim.name, "lora", 1, {}))
    report = judge(found, None, PROVENANCE, ["lora"])
    assert report.blocks[0].verdict == CORRECT
    assert report.verdict == CORRECT
    assert report.library.state == OK
    found.ran.remove(next((claim.name, None) for claim in load_properties().values() if claim.cases is None))
    report = judge(found, None, PROVENANCE, ["lora"])
    assert (report.blocks[0].verdict, report.library.state, report.verdict) == (CORRECT, UNMEASURED, PARTIAL)


def test_failures_of_the_suite_itself_are_no_variants() -> None:
    """They are listed, and leave the whole in doubt; a test that measures a variant, or replays a property,
    does judge it.
    """
    found, _ = run(["lora"])
    for claim in load_properties().values():
        found.ran.add((claim.name, "lora" if claim.cases else None))
        found.measured.append(Measured(claim.name, "lora", 1, {}))
    for nodeid in (
        "test_recipes.py::test_every_case_comes_back[lora]",
        "test_audit_page.py::test_the_page_prints",
        "test_x.py",
    ):
        found.failures.append(failure_of(f"properties/{nodeid}", "chromium does not start; lora: see there"))
    report = judge(found, None, PROVENANCE, ["lora"])
    assert (report.blocks[0].verdict, report.library.state, report.verdict, report.must_fix) == (
        CORRECT,
        OK,
        PARTIAL,
        [],
    )
    assert [f.kind for f in report.suite] == ["test", "test", "collection"]
    for text in (markdown(report), page(report)):
        assert "test_the_page_prints" in text
        assert "The suite itself is in doubt" in text
    replay = (
        "properties/claims/test_regressions.py::test_regressions[lora-save_load_keeps_every_bit-c443f02b]"
    )
    for failure in (
        failure_of("properties/test_x.py::test_compiled_output[lora]", "no", left=["capability"]),
        failure_of(replay, "save_load_keeps_every_bit [lora]\noff by one"),
    ):
        report = judge(Evidence(failures=[failure]), None, PROVENANCE, ["lora"])
        assert (report.blocks[0].verdict, report.suite) == (BUGGY, [])
    assert failure.claim == "save_load_keeps_every_bit"
    assert failure_of(replay, "/somewhere/save_load.json: its recipe no longer builds").kind == "test"


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("dora: refused", True),
        ("[dora] differs", True),
        ("variant='dora', r=2", True),
        ("not so under dora.", True),
        ("/src/dora-lite/adapter.py", False),
        ("lora_lite/variants/dora.py:3", False),
        ("ia3_dora", False),
        ("see tuners/dora", False),
    ],
)
def test_a_message_names_a_variant_and_no_file_of_that_name(message: str, named: bool) -> None:
    assert names(message, "dora") == named


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
    assert (lora.reference.verdict, lora.reference.severity, lora.verdict) == (
        "NO_REFERENCE",
        "HIGH",
        PARTIAL,
    )
    assert {name for name, found in lora.columns.items() if found.state == NO_REFERENCE} == {
        *("has_ref", "init", "forward", "gradient")
    }


def test_a_claim_about_the_library_counts_for_the_variants_that_it_names() -> None:
    for message, verdicts in (("dora: refused", [BUGGY, PARTIAL]), ("nothing named", [PARTIAL, PARTIAL])):
        failure = failure_of(
            "properties/claims/test_files.py::test_places_that_cannot_be_used_are_named", message
        )
        found = Evidence(failures=[failure])
        report = judge(found, None, PROVENANCE, ["dora", "hra"])
        assert [b.verdict for b in report.blocks] == verdicts
        assert report.library.state == FAILS
        assert report.verdict == BUGGY
        assert [fix.variant for fix in report.must_fix] == [None]


def test_a_crash_is_told_with_its_recipe() -> None:
    text = (
        "    raise ValueError\nE   ValueError: no\nE   recipe   AdaptedLayer(variant='hra')\nE   replay  "
        " pytest x\n"
    )
    told = failure_of(
        "properties/claims/test_identity.py::test_identity_at_init[hra]", text, "ValueError: no"
    )
    assert (told.recipe, told.replay, told.message) == (
        "AdaptedLayer(variant='hra')",
        "pytest x",
        "ValueError: no",
    )
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


def test_the_formula_is_what_is_indented_above_the_sections() -> None:
    """A table of tensors and a section's second line are none of it; what a class inherits is not its own."""
    about = documents.document(
        """A gain.

            y' = (1 + g) y

        Tensors:
            g  (1,)  trained

        Deviations: none,
            but one.
        """
    )
    assert (about.title, about.formula) == ("A gain.", "y' = (1 + g) y")
    assert about.sections == {"Tensors": "g (1,) trained", "Deviations": "none, but one."}
    undocumented = type("Undocumented", (ll.LoRA,), {})
    assert documents.of_variant(undocumented) == documents.Document("", "", {})


def test_the_summary_fits_a_ci_job() -> None:
    """At most 60 lines a variant, and with every mutant of the catalogue below a megabyte."""
    report = audit(OWN)
    claims = [p.name for p in load_properties().values()]
    first = {
        "claim": claims[0],
        "variant": "lora",
        "examples": 3,
        "recipe": "AdaptedModel(" + "x" * 900 + ")",
    }
    mutants = [
        MutantRow(
            m.name,
            m.breaks,
            m.models,
            list(m.applies_to),
            dict.fromkeys(claims, "killed"),
            claims,
            [],
            first,
            0.1,
        )
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


def test_a_capability_is_as_good_as_the_worst_that_was_shown() -> None:
    records = [
        {"variant": "hra", "name": "compile", "outcome": outcome} for outcome in ("yes", "refused: no", "yes")
    ]
    report = judge(Evidence(records={"capability": records}), None, PROVENANCE, ["hra"])
    cells = {cell["name"]: cell["outcome"] for cell in report.capabilities}
    assert cells["compile"] == "refused: no"
    assert set(cells.values()) == {"refused: no", "not measured"}
