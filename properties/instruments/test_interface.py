"""Interface operators break one thing and nothing else, on any variant, a user's too; the score tells."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import lora_lite as ll
from properties.instruments.own_variant import readme_example
from properties.judging.assertions import Violation
from properties.judging.claim import load_claims
from properties.mutation import score
from properties.mutation.interface import FORWARD, Wrapped, interface_mutants
from properties.mutation.matrix import run_cell
from properties.mutation.reach import budget
from properties.mutation.score import Outcome
from properties.oracles import ORACLES
from strategies.options import BUILT_IN

pytestmark = pytest.mark.instruments


def adapted() -> Any:
    """Two layers under lora, trained."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    ll.attach(model, ll.LoRAConfig(r=2, alpha=3.0))
    with torch.no_grad():
        for adapter in ll.adapters_of(model):
            for parameter in adapter.parameters():
                parameter.normal_()
    return model


def mutants(variant: str) -> dict[str, Wrapped]:
    return {mutant.name.partition(": ")[2]: mutant for mutant in interface_mutants(variant)}


def test_what_is_wrong_is_what_it_says() -> None:
    """On a layer with numbers, against what it gives without the mutant."""
    model, x = adapted(), torch.randn(3, 4)
    with torch.no_grad():
        good = model[0](x)
        base = nn.functional.linear(x, model[0].weight, model[0].bias)
    update = (
        base.new_zeros(4, 4) + model[0].lora_lite.scale * model[0].lora_lite.B @ model[0].lora_lite.A
    ).detach()
    wanted = {
        "update_off": base,
        "update_doubled": 2 * good - base,
        "update_negated": 2 * base - good,
        "update_transposed": base + x @ update,
        "output_negated": -good,
        "output_of_the_neighbour": good.roll(1, 0),
        "off_in_training": base,
        "off_in_eval": good,
    }
    for name, output in wanted.items():
        with mutants("lora")[name].injected():
            torch.testing.assert_close(model[0](x).detach(), output)
    assert torch.equal(model[0](x).detach(), good)


def test_a_graph_that_is_cut_breaks_a_claim_and_crashes_none() -> None:
    """The message says of which layer."""
    claim = load_claims()["gradients_agree_with_the_oracle"]
    with mutants("lora")["output_detached"].injected(), pytest.raises(Violation, match="of layer 0 takes no"):
        claim.run("lora", budget(10, shrink=False))


def test_a_delayed_output_is_that_of_the_call_before() -> None:
    model, x = adapted(), torch.randn(3, 4)
    with mutants("lora")["output_delayed"].injected(), torch.no_grad():
        first, second = model[0](x), model[0](2 * x)
    assert torch.equal(first, second)


def test_files_and_merges_are_wrong_and_the_model_is_not(tmp_path: Path) -> None:
    model = adapted()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with mutants("lora")["saved_as_zeros"].injected():
        ll.save(model, tmp_path / "a.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    ll.detach(model)
    with mutants("lora")["frozen_by_load"].injected():
        (handle,) = ll.load(model, tmp_path / "a.safetensors")
    assert not any(parameter.any() for parameter in handle.parameters())
    assert [parameter.requires_grad for parameter in handle.parameters()] == [True, False] * 2


def test_merge_twice_is_the_update_twice() -> None:
    model = adapted()
    weight, layer = model[0].weight.detach().clone(), model[0].lora_lite
    update = (layer.scale * layer.B @ layer.A).detach()
    with mutants("lora")["merge_twice"].injected():
        ll.merge(model)
    torch.testing.assert_close(model[0].weight.detach(), weight + 2 * update)


def test_every_built_in_variant_has_them() -> None:
    for variant in BUILT_IN:
        assert set(FORWARD) | {"merge_twice", "saved_rounded"} <= set(mutants(variant))


@pytest.fixture
def gain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """README's own-variant example, word for word."""
    for name, text in readme_example().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    made = import_module("gain")
    import_module("gain_oracle")
    yield made
    del ll.VARIANTS["gain"], ORACLES["gain"], sys.modules["gain"], sys.modules["gain_oracle"]


def test_a_users_variant_has_them_and_the_claims_notice(gain: ModuleType) -> None:
    """Two claims about one call each: what needs another mode or a second call is for others."""
    forward, gradients = (
        load_claims()[name] for name in ("forward_agrees_with_the_oracle", "gradients_agree_with_the_oracle")
    )
    survived = set()
    for name, mutant in mutants("gain").items():
        if name in FORWARD:
            cells = [
                run_cell(claim, mutant, "gain", budget(60, shrink=False)) for claim in (forward, gradients)
            ]
            if {cell.outcome for cell in cells} == {"survived"}:
                survived.add(name)
    assert survived <= {"off_in_eval", "output_delayed"}


def test_the_score_tells_what_is_equivalent_and_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    why = {"same": score.Known(True, "cannot be told"), "later": score.Known(False, "a claim about it")}
    monkeypatch.setattr(score, "known", lambda: why)
    states = {"a": "killed", "b": "loud", "same": "survived", "later": "survived", "new": "survived"}
    made = score.score("generic", [Outcome(name, state) for name, state in states.items()])  # type: ignore[arg-type]
    assert (made.killed, made.loud, made.survived, made.equivalent) == (1, 1, 2, 1)
    assert made.survivors == {"later": "a claim about it", "new": ""}
    assert made.told == "generic    33.3% noticed: 1 killed, 2 survived, 1 equivalent; 1 loud"


def test_a_wrapper_is_taken_off_where_a_claim_raises() -> None:
    mutant = mutants("hra")["update_off"]
    (function,) = mutant.targets
    code = function.__code__
    with pytest.raises(Violation), mutant.injected():
        raise Violation("seen")
    assert function.__code__ is code
