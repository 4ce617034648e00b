"""The probe itself: its claims can fail, its data is what it says, and its command line says what it found."""

import subprocess
import sys
from collections import Counter

import pytest
import torch

from properties.mutants import CATALOGUE, load_catalogue
from properties.probe import models
from properties.probe import trial as trials
from properties.probe.__main__ import FAILED, UNUSABLE, main
from properties.probe.claims import CLAIMS
from properties.probe.coverage import NotApplicableError, by_attention
from properties.probe.data import MODULES, sentences, shuffles
from properties.probe.models import bench
from properties.probe.record import Record, table, to_json
from properties.probe.trial import Trial

# For each claim a variant and a mutant of the library that it must notice on tiny-qwen3.
WITNESSES = {
    "only the adapter trains": ("lora", "base_not_frozen"),
    "every parameter matters": ("hra", "hra_last_pair_left_out"),
    "every entry moves": ("lora", "lora_a_learns_at_the_first_step_only"),
    "first gradients are as declared": ("antipasto", "antipasto_rotation_detached"),
    "learning beats noise": ("hra", "hra_factors_kept_for_inference"),
    "learning generalises": ("lora", "the_rest_of_a_batch_is_left_alone"),
    "a planted target is recovered": ("lora", "the_update_ends_after_some_calls"),
    "the first step is continuous": ("delora", "delora_promises_a_small_first_step"),
    "reload keeps the effect": ("dora", "dora_norms_of_the_first_forward"),
    "every path is attached": ("lora", "head_adapted_by_default"),
}
load_catalogue()


@pytest.mark.slow
@pytest.mark.parametrize("claim", CLAIMS)
def test_each_claim_notices_its_failure(claim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variant, name = WITNESSES[claim]
    monkeypatch.setattr(trials, "DRAWS", 20)
    with CATALOGUE[name].injected():
        records = CLAIMS[claim].records(Trial(bench("tiny-qwen3"), variant))
    assert not all(record.holds for record in records), f"{claim} does not notice {name}:\n{table(records)}"


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
def test_a_loss_that_falls_whatever_is_learnt_fails_on_shuffled_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that is far too sure of itself gains from any training that takes its confidence."""
    monkeypatch.setattr(models, "SHARPNESS", 15 * models.SHARPNESS)
    monkeypatch.setattr(trials, "DRAWS", 20)
    records = CLAIMS["learning generalises"].records(Trial(bench("tiny-qwen3"), "delora"))
    assert [record.claim for record in records if not record.holds] == ["learning generalises: shuffled targets"]


def test_paths_that_a_model_does_not_have_are_told_and_not_counted() -> None:
    (record,) = CLAIMS["every path is attached"].records(Trial(bench("minilm"), "ia3"))
    assert record.why.startswith("of 5 ways to attach; not applicable: a tied output head: the model has no output head;")
    (record,) = CLAIMS["every path is attached"].records(Trial(bench("tiny-qwen3"), "ia3"))
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
    assert '"value": null' in to_json([record])
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
def test_what_cannot_be_probed_is_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert all(claim in done.stdout for claim in CLAIMS)
    assert f"{len(CLAIMS)}/{len(CLAIMS)}" in done.stderr
