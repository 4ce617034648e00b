"""The probe itself: its claims can fail, its data is what it says, and its command line says what it
found.
"""

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable

import pytest
import torch

from properties.mutation import CATALOGUE, load_catalogue
from properties.probe import measures, models
from properties.probe import trial as trials
from properties.probe.__main__ import FAILED, UNUSABLE, main
from properties.probe.coverage import NotApplicableError, by_attention
from properties.probe.data import MODULES, sentences, shuffles
from properties.probe.measurements import MEASUREMENTS, Measurement
from properties.probe.models import bench
from properties.probe.record import Record, table, to_json
from properties.probe.trial import Trial

pytestmark = pytest.mark.instruments

# Mutants of the library on tiny-qwen3, by the figure that must notice: these no other claim notices,
ALONE = {
    "only the adapter trains: base tensors touched": ("lora", "vectors_not_frozen"),
    "every parameter matters: weakest row": ("ia3", "ia3_half_of_the_gate_is_for_show"),
    "every entry moves: unmoved in bfloat16": ("ia3", "ia3_gate_without_the_one"),
    "learning beats noise: random steps": ("lora", "only_the_last_quarter_of_a_batch_is_adapted"),
    "learning generalises: held-out text": ("lora", "the_rest_of_a_batch_is_left_alone"),
    "every tensor goes downhill: uphill": ("lora", "lora_a_goes_the_wrong_way"),
    "the first step is continuous: order": ("lora", "lora_jumps_as_b_leaves_zero"),
    "the first step is continuous: init=zero_b, declared to jump": ("delora", "delora_zero_b_does_not_jump"),
    "reload keeps the effect: share of the effect lost": ("dora", "dora_norms_of_the_first_forward"),
    "every path is attached: paths that fail": ("lora", "head_adapted_by_default"),
}
# and these some others notice too.
SHARED = {
    "every parameter matters: weakest target": ("hra", "hra_factors_kept_for_inference"),
    "every entry moves: unmoved in float32": ("lora", "lora_a_learns_at_the_first_step_only"),
    "every entry moves: unmoved in float16": ("lora", "lora_a_learns_at_the_first_step_only"),
    "first gradients are as declared: other than declared": ("antipasto", "antipasto_rotation_detached"),
    "learning beats noise: disconnected": ("lora", "base_not_frozen"),
}
# No mutant of the library can: a loop that trains nothing, and a loss that falls whatever is learnt, have
# tests of their own.
OF_THE_PROBE = {"only the adapter trains: a leak is seen", "learning generalises: shuffled targets"}
load_catalogue()


def failures(claims: Iterable[Measurement], variant: str, mutant: str) -> set[str]:
    """The figures that notice; an error that is raised is loud, and none."""
    with CATALOGUE[mutant].injected():
        trial = Trial(bench("tiny-qwen3"), variant)
        return {r.claim for claim in claims for r in claim.records(trial) if not r.holds and not r.raised}


def claim_of(figure: str) -> str:
    return figure.partition(":")[0]


@pytest.mark.slow
@pytest.mark.parametrize("figure", ALONE)
def test_each_claim_alone_notices_a_failure(figure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "DRAWS", 20)
    noticed = failures(MEASUREMENTS.values(), *ALONE[figure])
    assert figure in noticed
    assert {claim_of(other) for other in noticed} == {claim_of(figure)}


@pytest.mark.slow
@pytest.mark.parametrize("figure", SHARED)
def test_each_figure_notices_a_failure(figure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "DRAWS", 20)
    assert figure in failures([MEASUREMENTS[claim_of(figure)]], *SHARED[figure])


def test_a_claim_that_alone_notices_nothing_says_why_it_stays() -> None:
    alone = {claim_of(figure) for figure in ALONE}
    assert {name for name, claim in MEASUREMENTS.items() if claim.stays} == set(MEASUREMENTS) - alone


@pytest.mark.slow
def test_every_figure_is_known_to_notice_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "DRAWS", 20)
    trial = Trial(bench("tiny-qwen3"), "delora")
    records = [record for claim in MEASUREMENTS.values() for record in claim.records(trial)]
    assert {record.claim for record in records} == {*ALONE, *SHARED, *OF_THE_PROBE}


def test_a_leak_is_not_seen_where_nothing_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "fit", lambda *arguments: [])
    records = MEASUREMENTS["only the adapter trains"].records(Trial(bench("tiny-qwen3"), "lora"))
    assert [record.claim for record in records if not record.holds] == [
        "only the adapter trains: a leak is seen"
    ]


def test_sentences_are_unseen_balanced_and_the_same_every_time() -> None:
    texts, labels = sentences(9, seed=0)
    assert len(set(texts)) == len(texts) == 9 * len(MODULES)
    assert set(Counter(labels).values()) == {9}
    assert sentences(9, seed=0) == (texts, labels)
    assert sentences(9, seed=1) != (texts, labels)


def test_shuffled_targets_say_nothing_of_the_true_ones() -> None:
    labels = torch.arange(4).repeat(8)
    drawn = shuffles(labels, classes=4, seed=0)
    for targets in drawn:
        assert set(Counter(zip(labels.tolist(), targets.tolist(), strict=True)).values()) == {2}
    assert torch.stack(drawn).sort(0).values.equal(torch.arange(4)[:, None].expand(4, 32))
    assert not torch.equal(drawn[0], shuffles(labels, classes=4, seed=1)[0])


@pytest.mark.slow
def test_a_loss_that_falls_whatever_is_learnt_fails_on_shuffled_targets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A head that is far too sure of itself gains from any training that takes its confidence."""
    monkeypatch.setattr(models, "SHARPNESS", 100 * models.SHARPNESS)
    monkeypatch.setattr(trials, "DRAWS", 20)
    records = MEASUREMENTS["learning generalises"].records(Trial(bench("tiny-qwen3"), "ia3"))
    assert [record.claim for record in records if not record.holds] == [
        "learning generalises: shuffled targets"
    ]


@pytest.mark.slow
def test_what_random_steps_do_as_well_is_compared_with_its_formula() -> None:
    """A gain for each layer learns no more than the best of a hundred random steps finds: no more is wanted
    than its formula reaches, and no less.
    """

    def noticed() -> set[str]:
        trial = Trial(bench("tiny-qwen3"), "lora")
        # Neither random steps nor runs that are asked about elsewhere.
        trial.__dict__["chance"] = trials.Drop(math.inf, math.inf)
        trial.__dict__["control"] = trial.__dict__["shuffled"] = trials.Drop(0.0, 0.0)
        claims = (MEASUREMENTS["learning beats noise"], MEASUREMENTS["learning generalises"])
        return {r.claim for claim in claims for r in claim.records(trial) if not r.holds}

    assert noticed() == set()
    with CATALOGUE["the_rest_of_a_batch_is_left_alone"].injected():
        assert noticed() == {"learning beats noise: random steps", "learning generalises: held-out text"}


def test_paths_that_a_model_does_not_have_are_told_and_not_counted() -> None:
    (record,) = MEASUREMENTS["every path is attached"].records(Trial(bench("minilm"), "ia3"))
    assert record.why.startswith(
        "of 5 ways to attach; not applicable: a tied output head: the model has no output head;"
    )
    (record,) = MEASUREMENTS["every path is attached"].records(Trial(bench("tiny-qwen3"), "ia3"))
    assert record.why == "of 7 ways to attach"


def test_attention_is_found_by_its_usual_names_or_told_to_be_missing() -> None:
    assert by_attention(["0.SelfAttention.q", "0.wo"]) == (["0.SelfAttention.q"], ["0.wo"])
    assert by_attention(["0.self_attn.q", "0.up"]) == (["0.self_attn.q"], ["0.up"])
    with pytest.raises(NotApplicableError, match=r"no attention found among 0\.mixer\.in_proj"):
        by_attention(["0.mixer.in_proj"])


@pytest.mark.parametrize("model", ["tiny-qwen3", "minilm"])
def test_blocks_that_are_run_once_give_what_they_always_give(model: str) -> None:
    of = bench(model)
    with torch.no_grad():
        whole = of.run(of.base)
        recorded = of.features(of.base)
        mask = of.inputs["attention_mask"][..., None].to(whole)
        assert torch.equal((whole * mask).sum(1) / mask.sum(1), recorded)


def test_what_is_not_a_number_does_not_hold() -> None:
    record = Record("some claim", "lora", "tiny-qwen3", float("nan"), "≤", 0.0, "why")
    assert not record.holds
    assert to_json([record])[0]["value"] is None
    assert "FAILS" in table([record])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "no/such-model"], "no/such-model: no checkpoint that transformers can load"),
        (["--model", "tiny-qwen3", "--variant", "lara"], "no variant lara; known: antipasto"),
        (["--model", "tiny-qwen3", "--steps", "0"], "--steps: found 0, wanted 1 or more"),
    ],
    ids=["model", "variant", "steps"],
)
def test_what_cannot_be_probed_is_told(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == UNUSABLE
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_failed_claim_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with CATALOGUE["base_not_frozen"].injected():
        assert main(["--model", "tiny-qwen3", "--variant", "lora"]) == FAILED
    printed = capsys.readouterr()
    assert "FAILS [lora] only the adapter trains" in printed.out


@pytest.mark.slow
def test_the_command_prints_a_table_and_a_progress_bar() -> None:
    command = [sys.executable, "-m", "properties.probe", "--model", "tiny-qwen3", "--variant", "ia3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(claim in done.stdout for claim in MEASUREMENTS)
    assert f"{len(MEASUREMENTS)}/{len(MEASUREMENTS)}" in done.stderr
