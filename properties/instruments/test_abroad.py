"""Mutants of another library's package: what is drawn, and what notices it."""

import sys

import pytest

from properties.abroad import __main__ as abroad
from properties.abroad import by_claims, mutants
from properties.subjects.living import library

pytestmark = pytest.mark.instruments

MODULE, METHOD, EXAMPLES = "loralib.layers", "loralib:lora", 15


@pytest.fixture(scope="module")
def held() -> by_claims.Baseline:
    if missing := library("loralib").missing():
        pytest.skip(f"not judged: {missing}")
    return by_claims.baseline([METHOD], mutants.files_of("loralib", MODULE), EXAMPLES)


def test_lines_that_no_claim_runs_are_left_out(held: by_claims.Baseline) -> None:
    """Of loralib's layers those that are linear, and of these what a life runs."""
    drawn = mutants.drawn(MODULE, [METHOD], by_claims.run_by(held), seed=0, size=6)
    names = [mutant.name for mutant in drawn]
    assert len(names) == 9
    assert not [name for name in names if "Conv" in name or "Embedding" in name]


@pytest.mark.parametrize(
    ("name", "claim"),
    [
        ("saved_as_zeros", "a_loaded_adapter_gives_what_was_saved"),
        ("merge_lost", "a_merged_adapter_gives_what_it_gave"),
        ("load_permutes", "a_loaded_fresh_adapter_gives_what_was_saved"),
    ],
)
def test_a_fault_seen_from_outside_is_noticed(held: by_claims.Baseline, name: str, claim: str) -> None:
    """By a claim that holds on correct code."""
    (mutant,) = [one for one in mutants.interface(METHOD) if one.name == f"{METHOD}: {name}"]
    only = {METHOD: {claim: held[METHOD][claim]}}
    assert by_claims.judged(mutant, held=only, examples=EXAMPLES).state == "killed"


def test_what_breaks_on_correct_code_is_asked_where_it_holds() -> None:
    """Elsewhere it would notice every mutant; and a slow one runs where no mutant is."""
    if missing := library("lora_pytorch").missing():
        pytest.skip(f"not judged: {missing}")
    method = "lora_pytorch:lora"
    asked = by_claims.baseline([method], mutants.files_of("lora_pytorch", "lora_pytorch"), 5)[method]
    assert not asked["the_base_keeps_every_bit"].breaks
    assert asked["gradients_are_those_of_the_forward"].breaks
    assert "a_fresh_process_loads_what_was_saved" not in asked


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--module peft.tuners.nothing", "--module: peft has no peft.tuners.nothing"),
        ("--module nothing.at.all", "--module: peft has no nothing.at.all"),
        ("--module .lora", "--module: peft has no .lora"),
        ("--module peft.tuners.lora --variant lorra", "--variant: no method lorra; near: "),
        ("--module peft.tuners.lora --tried nowhere.json", "argument --tried: no file nowhere.json"),
        ("--module peft.tuners.lora --tests tests", "--tests wants --tried"),
    ],
)
def test_what_is_not_there_is_refused_by_its_name(
    words: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if missing := library("peft").missing():
        pytest.skip(f"not judged: {missing}")
    monkeypatch.setattr(abroad, "begin_alone", lambda *_, **__: pytest.fail("begun"))
    monkeypatch.setattr(sys, "argv", ["abroad", "--subject", "peft", *words.split()])
    with pytest.raises(SystemExit, match="2"):
        abroad.main()
    assert told in capsys.readouterr().err
