"""What is saved comes back; what does not belong is refused, and the model is as before."""

import copy
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import lora_lite as ll
from properties.assertions import Violation, assert_all_identical, assert_holds, assert_identical
from properties.implementation import implementation
from properties.observe import AnyCase, default_run, subject
from properties.registry import every_variant
from strategies import AdaptedLayer, AdaptedModel, trained_layers, trained_models


def scratch_file() -> Path:
    """A place for one example's file; function-scoped fixtures do not fit inside @given."""
    handle, name = tempfile.mkstemp(suffix=".safetensors")
    os.close(handle)
    return Path(name)


def check_round_trip(case: AnyCase) -> None:
    made = subject(case)
    before = default_run(case)(made.model).detach()
    path = scratch_file()
    try:
        implementation.save(made.model, path)
        fresh = case.build()
        implementation.load(fresh, path)
    finally:
        path.unlink()
    saved, loaded = implementation.tensors(made.model), implementation.tensors(fresh)
    assert_holds(list(saved) == list(loaded), claim=f"loaded onto {list(loaded)}, saved from {list(saved)}")
    for target in saved:
        assert_all_identical(loaded[target], saved[target], claim=f"the loaded tensors of {target}")
    for target, tensors in loaded.items():
        live = {n for n, t in tensors.items() if t.requires_grad}
        wanted = {n for n, t in saved[target].items() if t.requires_grad}
        assert_holds(live == wanted, claim=f"after load {sorted(live)} of {target} are trainable, wanted {sorted(wanted)}")
    assert_identical(default_run(case)(fresh).detach(), before, claim="the output after load is the output that was saved")
    assert_all_identical(base_tensors(fresh), made.base, claim="load changed the base")


def base_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer of the model but the adapters'."""
    own = {id(t) for tensors in implementation.tensors(model).values() for t in tensors.values()}
    named = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    state = set(model.state_dict())
    return {name: tensor.detach() for name, tensor in named.items() if id(tensor) not in own and name in state}


@every_variant(trained_layers)
def test_save_load_keeps_every_bit(case: AdaptedLayer) -> None:
    """Onto a fresh copy of the base: tensors bit-equal, trainable as before, outputs equal, base untouched."""
    check_round_trip(case)


@every_variant(trained_models, share=0.3)
def test_save_load_of_a_whole_model_keeps_every_bit(case: AdaptedModel) -> None:
    """The same on a model, calibration and per-layer ranks included."""
    check_round_trip(case)


def flip_a_sign(weight: Tensor) -> None:
    weight[0, 0] = -weight[0, 0] if weight[0, 0] else 1


def swap_two_rows(weight: Tensor) -> None:
    weight[[0, 1]] = weight[[1, 0]]


def change_one_entry(weight: Tensor) -> None:
    weight[-1, -1] = torch.nextafter(weight[-1, -1].float(), torch.tensor(torch.inf)).to(weight)


BASE = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 6, bias=False))


def adapted(config: ll.AdapterConfig | None = None) -> nn.Module:
    """A small model with a trained adapter."""
    model = copy.deepcopy(BASE)
    ll.attach(model, config or ll.LoRAConfig(r=2))
    with torch.no_grad():
        for parameter in ll.adapters_of(model)[0].parameters():
            parameter.add_(0.1)
    return model


def refused(model: nn.Module, path: Path, error: type[Exception], match: str, **options: Any) -> None:
    """load raises this, and leaves parameters, flags and hooks as they were."""
    before = {name: (id(p), p.requires_grad, p.detach().clone()) for name, p in model.named_parameters()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    with pytest.raises(error, match=match):
        ll.load(model, path, **options)
    after = {name: (id(p), p.requires_grad, p.detach().clone()) for name, p in model.named_parameters()}
    assert list(before) == list(after)
    for name, (identity, flag, value) in before.items():
        assert (identity, flag) == after[name][:2]
        assert_identical(after[name][2], value, claim=f"{name} after a refused load")
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


@pytest.mark.parametrize("change", [flip_a_sign, swap_two_rows, change_one_entry])
def test_another_base_is_refused(change: Callable[[Tensor], None], tmp_path: Path) -> None:
    ll.save(adapted(), tmp_path / "a.safetensors")
    other = copy.deepcopy(BASE)
    with torch.no_grad():
        change(other[2].weight)  # type: ignore[arg-type]
    refused(other, tmp_path / "a.safetensors", ll.BaseMismatchError, r"2\.weight: fingerprint \w+, the file says \w+")
    ll.load(other, tmp_path / "a.safetensors", check_base=False)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    ll.save(adapted(), tmp_path / "a.safetensors")
    other = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 7, bias=False))
    refused(
        other,
        tmp_path / "a.safetensors",
        ll.CheckpointError,
        r"2: tensor B has shape \(6, 2\), wanted \(7, 2\)",
        check_base=False,
    )
    refused(nn.Sequential(nn.GELU()), tmp_path / "a.safetensors", ll.CheckpointError, "0: found a GELU", check_base=False)


def rewrite(path: Path, change: Callable[[dict[str, Tensor], dict[str, Any]], None]) -> None:
    """Write the file again after a change of its tensors and its parsed header."""
    import json

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        header = json.loads(file.metadata()["lora_lite"])
    change(tensors, header)
    save_file(tensors, path, metadata={"lora_lite": json.dumps(header)})


DAMAGE: dict[str, tuple[Callable[[dict[str, Tensor], dict[str, Any]], Any], str]] = {
    "a tensor is missing": (lambda t, h: t.pop("0.A"), "0: tensor A is missing"),
    "a tensor too many": (lambda t, h: t.update({"0.C": torch.zeros(1)}), r"unknown tensors \['0.C'\]"),
    "a tensor of another shape": (lambda t, h: t.update({"0.A": torch.zeros(3, 6)}), r"0: tensor A has shape \(3, 6\)"),
    "a tensor of integers": (lambda t, h: t.update({"0.A": torch.zeros(2, 6, dtype=torch.int8)}), "wanted floating point"),
    "another variant": (lambda t, h: h["adapters"][0].update(variant="hra"), "damaged header"),
    "an unknown variant": (lambda t, h: h["adapters"][0].update(variant="nola"), "unknown variant 'nola'"),
    "another format version": (lambda t, h: h.update(format=99), "format 99"),
    "NaN in the config": (lambda t, h: h["adapters"][0]["config"].update(alpha=float("nan")), "NaN is no number"),
    "an option dropped": (lambda t, h: h["adapters"][0]["config"].pop("alpha"), r"missing fields \['alpha'\]"),
    "an option unheard of": (lambda t, h: h["adapters"][0]["config"].update(beta=1), r"unknown fields \['beta'\]"),
    "an impossible option": (lambda t, h: h["adapters"][0]["config"].update(r=-1), "r: found -1"),
    "targets of the wrong type": (lambda t, h: h["adapters"][0].update(targets=["0"]), "targets should be"),
    "no such layer": (
        lambda t, h: h["adapters"][0]["targets"].update({"9": {"r": 2, "alpha": 16.0}}),
        "9: found no such layer",
    ),
    "adapters of the wrong type": (lambda t, h: h.update(adapters=3), "adapters should be"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path) -> None:
    change, match = DAMAGE[damage]
    ll.save(adapted(), path := tmp_path / "a.safetensors")
    rewrite(path, change)
    refused(copy.deepcopy(BASE), path, ll.CheckpointError, match)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    ll.save(adapted(), path := tmp_path / "a.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(copy.deepcopy(BASE), path, ll.CheckpointError, "not a whole safetensors file")


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, path := tmp_path / "a.safetensors")
    refused(copy.deepcopy(BASE), path, ll.CheckpointError, "without a 'lora_lite' header")


def test_load_onto_a_layer_that_carries_an_adapter_is_refused(tmp_path: Path) -> None:
    ll.save(model := adapted(), tmp_path / "a.safetensors")
    refused(model, tmp_path / "a.safetensors", ll.TargetError, "already carry an adapter")


def test_a_crash_while_saving_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ll.save(adapted(), path := tmp_path / "a.safetensors")
    old = path.read_bytes()

    def crash(tensors: Any, place: str, metadata: Any) -> None:
        Path(place).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("lora_lite.checkpoint.save_file", crash)
    with pytest.raises(KeyboardInterrupt):
        ll.save(adapted(ll.IA3Config()), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_several_adapters_travel_together(tmp_path: Path) -> None:
    """ia3 on some layers and ia3_ff on others, in one file; each keeps its config."""
    model = copy.deepcopy(BASE)
    ll.attach(model, ll.IA3Config(target_names=("0",)))
    ll.attach(model, ll.IA3FFConfig(target_names=("2",)))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.fill_(0.5)
    ll.save(model, tmp_path / "a.safetensors")
    handles = ll.load(fresh := copy.deepcopy(BASE), tmp_path / "a.safetensors")
    assert [h.config for h in handles] == [h.config for h in ll.adapters_of(model)]
    assert [h.targets for h in handles] == [("0",), ("2",)]
    x = torch.randn(4, 6)
    assert_identical(fresh(x), model(x), claim="two adapters after load")


def test_load_casts_where_asked(tmp_path: Path) -> None:
    ll.save(adapted(), tmp_path / "a.safetensors")
    (handle,) = ll.load(copy.deepcopy(BASE), tmp_path / "a.safetensors", dtype=torch.bfloat16)
    assert {p.dtype for p in handle.parameters()} == {torch.bfloat16}
    assert handle.config.dtype == torch.bfloat16


def test_load_runs_no_svd_and_no_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = copy.deepcopy(BASE)
    ll.attach(model, ll.PiSSAConfig(r=2))
    ll.save(model, tmp_path / "a.safetensors")

    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise Violation("load recomputed a decomposition")

    for function in ("linalg.svd", "svd_lowrank", "linalg.eigh"):
        monkeypatch.setattr(f"torch.{function}", forbidden)
    ll.load(copy.deepcopy(BASE), tmp_path / "a.safetensors")
