"""`python -m properties.verify` on adapters that were never trained, and on inits that rewrite the base."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_lite as ll
from properties.instruments import planted_faults as plant
from properties.instruments.planted_faults import told
from properties.verify.bases import Base
from properties.verify.effects import is_read
from properties.verify.files import open_adapter
from properties.verify.judge import verify
from properties.verify.loading import on_lora_lite, on_peft
from properties.verify.page import page
from properties.verify.report import CannotJudgeError, Report

pytest.importorskip("peft", reason="pip install peft")
pytestmark = [
    pytest.mark.instruments,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
ALL = plant.LLAMA.all
TARGETS = plant.LLAMA.targets


def hra() -> Any:
    import peft

    return peft.HRAConfig(r=8, target_modules=list(TARGETS))


def untrained(base: Base, path: Path, config: Any) -> Path:
    """As peft starts it."""
    import peft

    peft.get_peft_model(copy.deepcopy(base.model), config).save_pretrained(path)
    return path


PEFT: dict[str, Callable[[], Any]] = {
    "hra": hra,
    "dora": lambda: plant.lora(use_dora=True),
    "pissa": lambda: plant.lora(init_lora_weights="pissa"),
    "orthogonal": lambda: plant.lora(init_lora_weights="orthogonal"),
}


@pytest.mark.parametrize("name", ["llama", "bfloat16"])
@pytest.mark.parametrize("method", PEFT)
def test_what_peft_never_trained_does_not_act(method: str, name: str, tmp_path: Path) -> None:
    base = plant.base(name)
    report = verify(base, str(untrained(base, tmp_path, PEFT[method]())))
    assert report.code == 1, page(report)
    assert told(report) == {"no effect": ALL}, page(report)


@pytest.mark.parametrize("name", ["llama", "bfloat16"])
@pytest.mark.parametrize("method", ["pissa", "dora", "delora", "hra"])
def test_what_lora_lite_never_trained_does_not_act(method: str, name: str, tmp_path: Path) -> None:
    base = plant.base(name)
    model = copy.deepcopy(base.model)
    settings: Any = {"r": 4, "target_names": TARGETS}
    ll.attach(model, ll.VARIANTS[method].config_class(**settings))
    ll.save(model, tmp_path / "a.safetensors")
    report = verify(base, str(tmp_path / "a.safetensors"))
    assert report.code == 1, page(report)
    assert told(report) == {"no effect": ALL}, page(report)


def test_one_layer_that_was_never_trained_is_named(tmp_path: Path) -> None:
    import peft

    base = plant.base("llama")
    wrapped = peft.get_peft_model(copy.deepcopy(base.model), hra())
    plant.filled((n, p) for n, p in wrapped.named_parameters() if p.requires_grad and plant.V not in n)
    wrapped.save_pretrained(tmp_path)
    report = verify(base, str(tmp_path))
    assert told(report) == {"no effect": (plant.V,)}, page(report)


@pytest.mark.parametrize("name", ["llama", "bfloat16"])
def test_a_change_below_a_rounding_of_the_output_acts(name: str, tmp_path: Path) -> None:
    """It is more than its own numbers' rounding; in the sum over a text it counts."""
    at = plant.folder(plant.base(name), tmp_path)
    share = torch.finfo(plant.base(name).weights[f"{plant.Q}.weight"].dtype).eps / 2
    plant.edit(at, lambda t: [v.mul_(share) for n, v in t.items() if n.endswith("lora_B.weight")])
    report = verify(plant.base(name), str(at))
    assert report.code == 0, page(report)


def weights(base: Base) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in base.weights.items()}


def test_pissa_is_measured_against_the_base(tmp_path: Path) -> None:
    """Where the residual that peft leaves of it has others; the base is itself again after."""
    base = plant.base("llama")
    before = weights(base)
    at = plant.folder(base, tmp_path, init_lora_weights="pissa")
    report = verify(base, str(at))
    assert report.code == 0, page(report)
    assert report.about["acts under"] == "lora_lite"
    assert "lora_lite and peft" in report.about
    as_lora = tmp_path / "lora"
    with on_lora_lite(base, open_adapter(str(at)), Report()):
        ll.export_peft(base.model, as_lora)
    effects = [row.effect for row in report.rows]
    # To float32's rounding, of the two computations.
    assert effects == pytest.approx([row.effect for row in verify(base, str(as_lora)).rows], rel=1e-4)
    assert all(torch.equal(base.weights[name], was) for name, was in before.items())


def test_what_peft_takes_off_leaves_the_base(tmp_path: Path) -> None:
    base = plant.base("llama")
    before = weights(base)
    at = plant.folder(base, tmp_path, init_lora_weights="olora")
    with on_peft(base, open_adapter(str(at)), Report()) as engine:
        assert engine is not None
        assert sorted(engine.rewritten) == sorted(f"{name}.weight" for name in ALL)
    assert all(torch.equal(base.weights[name], was) for name, was in before.items())


@pytest.mark.parametrize("init", ["olora", "pissa_niter_4", "corda", "loftq", "lora_ga"])
def test_another_init_that_rewrites_the_base_is_no_verdict(init: str, tmp_path: Path) -> None:
    base = plant.base("llama")
    before = weights(base)
    at = plant.folder(base, tmp_path)
    plant.configure(at, init_lora_weights=init)
    with pytest.raises(CannotJudgeError, match=f"init_lora_weights='{init}'"):
        verify(base, str(at))
    assert all(torch.equal(base.weights[name], was) for name, was in before.items())


def test_faults_of_such_a_folder_are_told_of(tmp_path: Path) -> None:
    at = plant.folder(plant.base("llama"), tmp_path)
    plant.configure(at, init_lora_weights="olora")
    plant.edit(at, lambda t: plant.put(t, plant.LLAMA, torch.nan))
    assert "NaN in the file" in told(verify(plant.base("llama"), str(at)))


def test_a_weight_is_put_back_whatever_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the doubling itself is interrupted, too."""
    base = plant.base("llama")
    before = weights(base)
    at = plant.folder(base, tmp_path)
    double = torch.Tensor.mul_

    def interrupted(self: torch.Tensor, factor: Any) -> None:
        double(self, factor)
        raise KeyboardInterrupt

    with on_peft(base, open_adapter(str(at)), Report()) as engine:
        assert engine is not None
        monkeypatch.setattr(torch.Tensor, "mul_", interrupted)
        with pytest.raises(KeyboardInterrupt):
            is_read(plant.Q, engine, base)
        monkeypatch.undo()
    assert torch.equal(base.weights[f"{plant.Q}.weight"], before[f"{plant.Q}.weight"])


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize("key", ["q_porj", "language_model.layers.0.self_attn.q_proj", "^layers.0"])
def test_a_setting_that_nothing_is_called_by_is_a_fault(field: str, key: str, tmp_path: Path) -> None:
    at = plant.folder(plant.base("llama"), tmp_path)
    plant.configure(at, **{field: {key: 4}})
    report = verify(plant.base("llama"), str(at))
    assert told(report) == {"a setting for no layer": (key,)}, page(report)


def test_ranks_that_adalora_has_left_are_no_settings(tmp_path: Path) -> None:
    """Its rank_pattern holds a list of booleans for every tensor."""
    import peft

    base = plant.base("llama")
    config = peft.AdaLoraConfig(target_modules=list(TARGETS), init_r=4, total_step=10)
    at = plant.folder(base, tmp_path, config)
    plant.configure(at, rank_pattern={f"model.{plant.Q}.lora_E": [True] * 4})
    parts = dict(base.model.named_modules())
    report = verify(base, str(at))
    kinds = {finding.kind for finding in report.findings}
    assert "a setting for no layer" not in kinds, page(report)
    # It had wrapped the layers by then: what is judged next is the base again.
    assert "peft refuses it" in kinds, page(report)
    assert dict(base.model.named_modules()) == parts
