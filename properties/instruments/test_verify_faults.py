"""More faults for `python -m properties.verify`, of kinds that others have put into files; and remarks."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_lite as ll
from properties.instruments import planted_faults as plant
from properties.instruments.planted_faults import LLAMA, configure, edit, told
from properties.verify.bases import Base
from properties.verify.judge import verify
from properties.verify.page import page
from properties.verify.report import Report

pytest.importorskip("peft", reason="pip install peft")
pytestmark = [
    pytest.mark.instruments,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
ALL, LAST = LLAMA.all, LLAMA.last
B = f"{LAST}.lora_B.weight"


def renamed(at: Path, old: str, new: str) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.replace(old, new)] = tensors.pop(name)

    edit(at, change)


def swapped(at: Path) -> None:
    renamed(at, "lora_A", "lora_C")
    renamed(at, "lora_B", "lora_A")
    renamed(at, "lora_C", "lora_B")


def each(at: Path, change: Callable[[torch.Tensor], torch.Tensor], *, where: str = "") -> None:
    edit(at, lambda t: t.update({name: change(v) for name, v in t.items() if where in name}))


Fault = tuple[Callable[[Path], Any], str, tuple[str, ...]]
# By what is planted: what it does to the folder, the kind of fault that must be told of, and its layers.
FAULTS: dict[str, Fault] = {
    "A zero": (lambda at: each(at, torch.zeros_like, where="lora_A"), "no effect", ALL),
    "a millionth of one layer": (
        lambda at: each(at, lambda v: v * 1e-6, where=B),
        "an effect far below the others'",
        (LAST,),
    ),
    "alpha of a billion": (
        lambda at: configure(at, lora_alpha=10**9),
        "an effect far above the layer's own output",
        ALL,
    ),
    "whole numbers": (
        lambda at: each(at, lambda v: (100 * v).to(torch.int8), where=LAST),
        "numbers that are no floating-point ones",
        (LAST,),
    ),
    "a block that is not there": (
        lambda at: configure(at, layers_to_transform=[0, 1, 5]),
        "layers that the model lacks",
        ("5",),
    ),
    "a head that is nowhere": (
        lambda at: configure(at, modules_to_save=["value_head"]),
        "layers that the model lacks",
        ("value_head",),
    ),
    "alpha 0 of some": (
        lambda at: configure(at, alpha_pattern={r".*\.1\.self_attn\.[qv]_proj": 0}),
        "alpha is 0",
        ALL[2:],
    ),
    "a pattern that is none": (
        lambda at: configure(at, alpha_pattern={"(q_proj": 3}),
        "a setting that is no pattern",
        (),
    ),
    "the compiler's prefix": (
        lambda at: renamed(at, "model.layers", "_orig_mod.model.layers"),
        "layers that the model lacks",
        tuple(f"_orig_mod.{name}" for name in ALL),
    ),
    "an adapter's name in the keys": (
        lambda at: renamed(at, ".weight", ".default.weight"),
        "tensors that reach no layer",
        ALL,
    ),
    "A for B": (swapped, "the rank contradicts the config", ALL),
    "no tensor": (lambda at: edit(at, dict.clear), "tensors that are missing", ALL),
    "another method": (lambda at: configure(at, peft_type="IA3"), "tensors that reach no layer", ALL),
    "a layer excluded": (
        lambda at: configure(at, exclude_modules=[LAST]),
        "tensors that reach no layer",
        (LAST,),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_told_of(fault: str, tmp_path: Path) -> None:
    do, kind, layers = FAULTS[fault]
    at = plant.folder(plant.base("llama"), tmp_path)
    do(at)
    report = verify(plant.base("llama"), str(at))
    assert report.code == 1, page(report)
    assert told(report).get(kind) == layers, page(report)


def test_magnitudes_of_zero_silence_a_layer(tmp_path: Path) -> None:
    at = plant.folder(plant.base("llama"), tmp_path, use_dora=True)
    each(at, torch.zeros_like, where=f"{LAST}.lora_magnitude")
    report = verify(plant.base("llama"), str(at))
    assert told(report) == {"layers that are silenced": (LAST,)}, page(report)


def of_lora_lite(path: Path) -> Any:
    """LoRA as trained, saved and exported; the model that carries it."""
    model: Any = copy.deepcopy(plant.base("llama").model)
    handle = ll.attach(model, ll.LoRAConfig(r=4, alpha=12, target_names=LLAMA.targets))
    plant.filled(handle.named_parameters())
    ll.save(model, path / "a.safetensors")
    ll.export_peft(model, path / "adapter")
    return model


def test_an_export_that_was_edited_is_told_of(tmp_path: Path) -> None:
    of_lora_lite(tmp_path)
    configure(tmp_path / "adapter", lora_alpha=24)
    report = verify(plant.base("llama"), str(tmp_path / "adapter"))
    assert set(told(report)) == {"lora_lite refuses it"}, page(report)
    assert "not what export_peft wrote together" in page(report)


def test_a_base_that_has_the_adapter_already_is_told_of(tmp_path: Path) -> None:
    """Whoever wrote it; a fingerprint tells of it as well."""
    model = of_lora_lite(tmp_path)
    ll.merge(model)
    whole = plant.base("llama")
    merged = Base(model.eval(), whole.batches, whole.inputs, path="merged")
    for file, kinds in (
        ("a.safetensors", {"another base"}),
        ("adapter", {"another base"}),
        ("theirs", set()),
    ):
        if file == "theirs":
            # As if peft had written it: without what an export tells of its base.
            (tmp_path / "adapter").rename(tmp_path / file)
            edit(tmp_path / file, lambda t: None)
        report = verify(merged, str(tmp_path / file))
        assert set(told(report)) == {*kinds, "the base has it already"}, page(report)
        assert ("may have been merged into this base already" in page(report)) == bool(kinds), page(report)


Remark = tuple[Callable[[Path], Any], str]
REMARKS: dict[str, Remark] = {
    "a thousandth": (lambda at: each(at, lambda v: v * 1e-3, where=B), "an effect far below the others'"),
    "a thousandfold": (
        lambda at: each(at, lambda v: v * 1e3, where=B),
        "an effect far above the layer's own output",
    ),
    "alpha below 0": (lambda at: configure(at, lora_alpha=-12), "alpha is below 0"),
    "no alpha": (
        lambda at: (at / plant.CONFIG).write_text(
            (at / plant.CONFIG).read_text().replace('"lora_alpha"', '"megatron_core"'), encoding="utf-8"
        ),
        "a setting that is not told",
    ),
}


@pytest.mark.parametrize("what", REMARKS)
def test_what_may_be_meant_is_a_remark(what: str, tmp_path: Path) -> None:
    do, kind = REMARKS[what]
    at = plant.folder(plant.base("llama"), tmp_path)
    do(at)
    report = verify(plant.base("llama"), str(at))
    assert report.code == 0, page(report)
    assert kind in {finding.kind for finding in report.findings}, page(report)


def test_a_file_in_eight_bits_is_read(tmp_path: Path) -> None:
    """As floating-point numbers, which they are."""
    at = plant.folder(plant.base("llama"), tmp_path)
    each(at, lambda v: v.to(torch.float8_e4m3fn))
    report = verify(plant.base("llama"), str(at))
    assert report.code == 0, page(report)


def test_what_is_said_twice_is_one_finding() -> None:
    report = Report()
    for name in "abcab":
        report.remark("odd", "they are odd", (name,))
    report.fault("odd", "they are odd", ("a",))
    assert [finding.layers for finding in report.findings] == [("a", "b", "c"), ("a",)]
    assert page(report).count("odd (3): a, b, c\n") == 1


def test_what_has_no_b_is_not_blamed_on_it(tmp_path: Path) -> None:
    """The file's own numbers tell: A or B of zero, a gate's offset, a whole layer."""
    base = plant.base("llama")
    for config, words in (
        (ll.LoRAConfig(r=4, target_names=LLAMA.targets), "exactly: their B is zero"),
        (ll.IA3Config(target_names=LLAMA.targets), "exactly: their offset is zero"),
        (ll.FullConfig(target_names=LLAMA.targets), "exactly: their weights are those of the base"),
    ):
        model = copy.deepcopy(base.model)
        ll.attach(model, config)
        ll.save(model, tmp_path / "a.safetensors")
        report = verify(base, str(tmp_path / "a.safetensors"))
        assert told(report) == {"no effect": ALL}, page(report)
        assert words in page(report), page(report)
