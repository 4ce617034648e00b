"""The audit is believed no more than what it audits: with a mutant on, the right stage moves, and nothing
else turns red.
"""

from dataclasses import replace

import pytest

import lora_lite as ll
from properties.audit import start
from properties.audit.evidence import Evidence
from properties.audit.judge import judge
from properties.audit.render import markdown, page
from properties.audit.report import BUGGY, CORRECT, PARTIAL, SuiteFailure
from properties.audit.sight import MutantRow
from properties.audit.terminal import summary
from properties.instruments.sample_audit import (
    PORTRAIT,
    PROVENANCE,
    audit,
    block_of,
    everything_held,
    held,
)
from properties.judging.claim import load_claims
from properties.judging.outcome import BROKEN, CRASHED, HELD, NOT_APPLICABLE, NOT_JUDGED, STAGES, Outcome
from properties.mutation import load_catalogue
from properties.oracles import ORACLES
from strategies.options import BUILT_IN

pytestmark = pytest.mark.instruments


@pytest.mark.parametrize(
    ("stage", "on", "claim", "mutant"),
    [
        ("gradient", "lora", "first_gradients_are_as_declared", "lora_A_declared_to_learn_at_once"),
        ("init", "pissa", PORTRAIT[1], "pissa_bottom_directions"),
        ("init", "hra", PORTRAIT[2], "hra_declared_exact"),
        ("forward", "lora", "forward_agrees_with_the_oracle", "lora_scale_lost"),
        ("gradient", "dora", "gradients_agree_with_the_oracle", "dora_gradient_through_the_norm"),
        ("save", "lora", "save_load_keeps_every_bit", "save_rounds_to_bfloat16"),
        ("attach", "lora", "the_handle_lists_what_is_trainable", "base_not_frozen"),
    ],
)
def test_a_mutant_turns_its_stage_red(stage: str, on: str, claim: str, mutant: str) -> None:
    """And no other; without it the same claim holds."""
    good, bad = (block_of(audit([on], [claim], mutant=name), on) for name in (None, mutant))
    assert (good.stages[stage].held, good.stages[stage].failed, good.verdict) == (1, 0, PARTIAL)
    assert [name for name, found in bad.stages.items() if found.failed] == [stage]
    assert bad.stages[stage].state == BROKEN
    assert (bad.verdict, f"broken ({stage})" in bad.reason) == (BUGGY, True)


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
TWO = ("init_agrees_with_the_oracle", "forward_agrees_with_the_oracle")


@pytest.mark.parametrize(("on", "mutant"), OWN.items())
def test_exactly_the_mutants_variants_turn_buggy(on: str, mutant: str) -> None:
    """All built-in variants are judged; without oracles nobody could say."""
    assert load_catalogue()[mutant].applies_to == (on,)
    report = audit(OWN, TWO, mutant=mutant)
    assert [b.variant for b in report.blocks if b.verdict == BUGGY] == [on]
    assert report.verdict == BUGGY


FEW = (
    "forward_agrees_with_the_oracle",
    "identity_at_init",
    "save_load_keeps_every_bit",
    "merged_layer_agrees_with_the_oracle",
)


@pytest.mark.parametrize(
    ("mutant", "claim", "place"),
    [
        ("lora_scale_lost", "forward_agrees_with_the_oracle", "lora_lite/variants/lora.py"),
        ("save_rounds_to_bfloat16", "save_load_keeps_every_bit", "lora_lite/checkpoint.py"),
        ("merge_adds_the_update_twice", "merged_layer_agrees_with_the_oracle", "lora_lite/merging.py"),
    ],
)
def test_must_fix_names_file_claim_and_shrunk_recipe(mutant: str, claim: str, place: str) -> None:
    """The file is that of the mutated function, found by what failing and passing tests have run."""
    report = audit(["ia3", "lora"], FEW, mutant=mutant, traced=True)
    fixes = [fix for fix in report.must_fix if "lora" in {failure.method for failure in fix.failures}]
    assert place in {fix.suspects[0].place.partition(":")[0] for fix in fixes}
    told = {failure.claim: failure for fix in fixes for failure in fix.failures}
    assert "variant='lora'" in str(told[claim].recipe)
    for text in (markdown(report), page(report)):
        assert place in text
        assert claim.replace("_", " ") in text


def test_correct_means_that_everything_was_judged() -> None:
    """A claim that did not run, a budget too small, a library's claim, a method left out: each is PARTIAL."""
    full = everything_held(BUILT_IN)
    report = judge(full, None, PROVENANCE, BUILT_IN)
    assert [(b.variant, b.reason) for b in report.blocks if b.verdict != CORRECT] == []
    assert (report.library.verdict, report.verdict) == (CORRECT, CORRECT)

    def without(claim: str, method: str | None) -> Evidence:
        return Evidence([o for o in full.outcomes if (o.claim, o.method) != (claim, method)])

    fact = next(claim.name for claim in load_claims().values() if claim.cases is None)
    for missing, method in (("forward_agrees_with_the_oracle", "hra"), (fact, None)):
        report = judge(without(missing, method), None, PROVENANCE, BUILT_IN)
        where = report.library if method is None else block_of(report, method)
        assert (where.verdict, report.verdict) == (PARTIAL, PARTIAL)
        assert "1 not judged: 1 not run" in where.reason
        assert missing.replace("_", " ") in page(report)
    few = Evidence([replace(o, budget=1) if o.claim == "identity_at_init" else o for o in full.outcomes])
    report = judge(few, None, PROVENANCE, BUILT_IN)
    assert {b.verdict for b in report.blocks} == {PARTIAL}
    assert "a budget of 1, wanted the default of 60" in report.blocks[0].reason
    report = judge(full, None, PROVENANCE, BUILT_IN[:2])
    assert ({b.verdict for b in report.blocks}, report.verdict) == ({CORRECT}, PARTIAL)
    assert report.left_out == [*BUILT_IN[2:]]
    assert BUILT_IN[2] in summary(report)


def test_a_run_of_one_example_judges_nothing() -> None:
    """Nine times PARTIAL, with the reason."""
    found = Evidence([replace(o, budget=1) for o in everything_held(BUILT_IN).outcomes])
    report = judge(found, None, PROVENANCE, BUILT_IN)
    assert [b.verdict for b in report.blocks] == [PARTIAL] * len(BUILT_IN)
    assert all("a budget of 1, wanted the default of 60 examples" in b.reason for b in report.blocks)


def test_failures_of_the_suite_itself_are_no_methods() -> None:
    """They are listed, and leave the whole in doubt."""
    found = everything_held(BUILT_IN)
    found.failures.append(
        SuiteFailure("properties/test_page.py::test_the_page_prints", "no browser; lora", "")
    )
    report = judge(found, None, PROVENANCE, BUILT_IN)
    assert {b.verdict for b in report.blocks} == {CORRECT}
    assert (report.library.verdict, report.verdict, report.must_fix) == (CORRECT, PARTIAL, [])
    for text in (markdown(report), page(report)):
        assert "test_the_page_prints" in text
        assert "The suite itself is in doubt" in text


def test_no_verdict_is_read_out_of_a_message() -> None:
    """A failing claim about the library is the library's, whatever method its message names."""
    fact = next(claim for claim in load_claims().values() if claim.cases is None)
    found = everything_held(BUILT_IN)
    found.outcomes.append(Outcome(fact.name, None, fact.stage, BROKEN, "dora: not refused", budget=60))
    report = judge(found, None, PROVENANCE, BUILT_IN)
    assert {b.verdict for b in report.blocks} == {CORRECT}
    assert (report.library.verdict, report.verdict) == (BUGGY, BUGGY)
    assert [fix.method for fix in report.must_fix] == [None]


def test_a_crash_is_told_as_one() -> None:
    found = everything_held(["hra"])
    killed = Outcome("identity_at_init", "hra", "init", CRASHED, "killed by SIGSEGV", replay="pytest x")
    found.outcomes.append(killed)
    report = judge(found, None, PROVENANCE, ["hra"])
    (hra,) = report.blocks
    assert (hra.verdict, hra.stages["init"].state) == (BUGGY, CRASHED)
    for text in (markdown(report), page(report), summary(report)):
        assert "pytest x" in text
    assert "killed by SIGSEGV" in page(report)


def test_of_several_outcomes_the_worst_counts() -> None:
    """A fixture that is replayed adds an example, or breaks the claim; alone it judges nothing."""
    claim = load_claims()["identity_at_init"]
    fixture = replace(held(claim, "hra"), replayed=True, examples=1)
    for left, state, examples in (
        ([held(claim, "hra"), fixture], HELD, 61),
        ([held(claim, "hra"), replace(fixture, state=BROKEN)], BROKEN, 61),
        ([fixture], NOT_JUDGED, 0),
        ([], NOT_JUDGED, 0),
    ):
        (block,) = judge(Evidence(left), None, PROVENANCE, ["hra"]).blocks
        (found,) = (o for o in block.outcomes if o.claim == claim.name)
        assert (found.state, found.examples) == (state, examples)


def test_what_was_not_judged_is_never_held() -> None:
    report = judge(Evidence(), None, PROVENANCE, ["hra"])
    (hra,) = report.blocks
    assert {o.state for o in hra.outcomes} == {NOT_JUDGED, NOT_APPLICABLE}
    assert {stage.held for stage in hra.stages.values()} == {0}
    assert hra.verdict == PARTIAL
    assert report.gaps.share is None
    assert all(link.status != "OK" for link in report.links)
    for text in (markdown(report), page(report)):
        assert "not measured in this run" in text.lower()


def test_without_an_oracle_every_claim_that_wants_one_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the remedy, and the variant is PARTIAL though all else holds; so it is without a reference."""
    monkeypatch.setattr(ll.LoRA, "reference", None)
    monkeypatch.delitem(ORACLES, "lora")
    (lora,) = judge(everything_held(["lora"]), None, PROVENANCE, ["lora"]).blocks
    asking = {"oracle", "what is trained"}
    wanting = {c.name for c in load_claims().values() if asking & {*c.needs} and not c.about}
    assert {o.claim for o in lora.outcomes if o.state == NOT_JUDGED} == wanting
    assert all("ORACLES['lora']" in o.why for o in lora.outcomes if o.state == NOT_JUDGED)
    assert (lora.reference.verdict, lora.reference.severity, lora.verdict) == (
        "NO_REFERENCE",
        "HIGH",
        PARTIAL,
    )
    assert f"{len(wanting)} not judged: no reference; {len(wanting)} no oracle: write" in lora.reason
    assert [what.partition(":")[0] for what in lora.could_add][:2] == ["no oracle", "no reference"]


def test_the_summary_fits_a_ci_job() -> None:
    """At most 60 lines a variant, and with every mutant of the catalogue below a megabyte."""
    report = judge(everything_held(OWN), None, PROVENANCE, [*OWN])
    claims = [p.name for p in load_claims().values()]
    first = {
        "claim": claims[0],
        "variant": "lora",
        "examples": 3,
        "recipe": "AdaptedModel(" + "x" * 900 + ")",
    }
    every = dict.fromkeys(claims, "killed")
    mutants = [
        MutantRow(m.name, m.breaks, m.models, list(m.applies_to), every, claims, [], first, 0.1)
        for m in load_catalogue().values()
    ]
    text = markdown(replace(report, mutants=mutants))
    assert len(text.encode()) < 1_000_000
    blocks = text.partition("# A. Methods")[2].partition("# B. Can the checks see?")[0].split("\n## ")[1:]
    assert len(blocks) == len(OWN)
    assert max(len(b.splitlines()) for b in blocks) <= 60
    assert max(map(len, summary(report).splitlines())) <= 100


@pytest.mark.parametrize(("option", "given"), [("mutant", "no_such"), ("speed", "no_such.json")])
def test_what_is_not_there_is_refused_at_once(
    option: str, given: str, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything runs, and not at the end."""
    monkeypatch.setattr(pytestconfig.option, option, given)
    with pytest.raises(pytest.UsageError, match=f"--{option}.*{given}"):
        start(pytestconfig)


def test_a_capability_is_as_good_as_the_worst_of_its_claims() -> None:
    """Claims declare it; what nobody judged is said to be so."""
    merging = [c for c in load_claims().values() if c.capability == "merge"]
    assert len(merging) == 2
    found = Evidence([held(merging[0], "hra"), replace(held(merging[1], "hra"), state=BROKEN)])
    report = judge(found, None, PROVENANCE, ["hra"])
    cells = {cell["name"]: cell["outcome"] for cell in report.capabilities}
    assert (cells["merge"], cells["compile"]) == ("BUGGY", "not judged: not run")


def test_every_claim_has_a_stage_that_the_summary_shows() -> None:
    assert {claim.stage for claim in load_claims().values()} == set(STAGES)
