"""What import_peft and export_peft refuse, each for its own reason, and leave as it was."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lora_lite as ll
from lora_lite.peft_format.settings import LONGEST_CONFIG
from properties.judging.assertions import assert_holds, assert_refuses, assert_runs
from properties.judging.claim import claim
from properties.judging.files import adapted, base, scratch_folder
from properties.judging.peft_folders import (
    CONFIG,
    assert_same_layers,
    assert_same_targets,
    change_folder,
    exported,
    targets_of,
)
from properties.judging.snapshot import assert_as_before, snapshot_of

PREFIX = "base_model.model."
Change = Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]


def refused(
    model: nn.Module, folder: Path, error: type[Exception], match: str, claim: str, **options: Any
) -> None:
    """import_peft raises this, and leaves the model as it was. claim: from the words "import of" on."""
    before = snapshot_of(model)
    with assert_refuses(error, match, claim=claim):
        ll.import_peft(model, folder, **options)
    assert_as_before(model, before, claim=f"after a refused {claim}")


# What is changed, and the message that it is told with, in a folder of LoRA with r = 2 on the layers 0 and 2.
DAMAGE: dict[str, tuple[Change, str]] = {
    "a tensor less": (
        lambda t, s: t.pop(f"{PREFIX}0.lora_B.weight"),
        "0: its tensor lora_B.weight is missing",
    ),
    "a tensor more": (
        lambda t, s: t.update({f"{PREFIX}0.weight": torch.zeros(1)}),
        r"found a tensor '.*0\.weight'",
    ),
    "keys without the prefix": (
        lambda t, s: t.update({name.removeprefix(PREFIX): t.pop(name) for name in list(t)}),
        r"found a tensor '0\.lora_A\.weight'",
    ),
    "a layer that the model lacks": (
        lambda t, s: t.update({name.replace("2.", "7."): t[name] for name in list(t)}),
        "7: found no such layer",
    ),
    "a layer of another kind": (
        lambda t, s: t.update({name.replace(f"{PREFIX}2", f"{PREFIX}1"): t[name] for name in list(t)}),
        "1: found a GELU",
    ),
    "a layer that the config does not name": (
        lambda t, s: s.update(target_modules=["0"]),
        "has tensors for 2, 1 layers that the config does not name",
    ),
    "a layer that it excludes": (lambda t, s: s.update(exclude_modules=["2"]), "has tensors for 2"),
    "a layer without tensors": (
        lambda t, s: [t.pop(name) for name in list(t) if "2." in name],
        "it names 2, 1 layers of this model for which",
    ),
    "a target that the model lacks": (
        lambda t, s: s["target_modules"].append("q_proj"),
        "target_modules names q_proj, which this model lacks",
    ),
    "another rank": (lambda t, s: s.update(r=3), r"lora_A\.weight has shape \(2, 6\), wanted \(3, 6\)"),
    "another rank of one layer": (lambda t, s: s.update(rank_pattern={"2": 1}), r"2: .* wanted \(1, 5\)"),
    "a rank that is none": (lambda t, s: s.update(r=True), "found the rank True"),
    "an alpha that is none": (lambda t, s: s.update(lora_alpha="16"), "found the alpha '16'"),
    "an alpha of zero": (lambda t, s: s.update(lora_alpha=0), "alpha: found 0"),
    "a transposed tensor": (
        lambda t, s: t.update({f"{PREFIX}0.lora_A.weight": t[f"{PREFIX}0.lora_A.weight"].mT}),
        r"lora_A\.weight has shape \(6, 2\)",
    ),
    "integers": (
        lambda t, s: t.update({f"{PREFIX}0.lora_A.weight": torch.zeros(2, 6, dtype=torch.int8)}),
        "is I8, wanted floating point",
    ),
    "NaN": (lambda t, s: t[f"{PREFIX}2.lora_B.weight"].fill_(torch.nan), "2: its B holds NaN or Inf"),
    "DoRA without magnitudes": (lambda t, s: s.update(use_dora=True), "lora_magnitude_vector is missing"),
    "a method that is none of ours": (lambda t, s: s.update(peft_type="VERA"), "peft_type: found 'VERA'"),
    "trained biases": (lambda t, s: s.update(bias="all"), "bias='all', wanted nothing"),
    "a bias of the update": (lambda t, s: s.update(lora_bias=True), "lora_bias=True, wanted nothing"),
    "rows of an embedding": (
        lambda t, s: s.update(trainable_token_indices=[1]),
        r"trainable_token_indices=\[1\], wanted nothing",
    ),
    "parameters that are no layer's": (
        lambda t, s: s.update(target_parameters=["experts.down_proj"]),
        "target_parameters=.* wanted nothing",
    ),
    "a setting of a newer version": (lambda t, s: s.update(use_qora=True), "use_qora=True, wanted nothing"),
    "an init that writes the base": (
        lambda t, s: s.update(init_lora_weights="olora"),
        "init_lora_weights: found 'olora'",
    ),
    "a pattern that takes years": (
        lambda t, s: s.update(target_modules=r"((a*)*)*b"),
        "may take too long to match",
    ),
    "ten thousand patterns": (
        lambda t, s: s.update(rank_pattern={f"x{i}": 2 for i in range(10_000)}),
        "found 10000 patterns for 4 layers",
    ),
    "ten thousand heads": (
        lambda t, s: s.update(modules_to_save=[f"x{i}" for i in range(10_000)]),
        "found 10000 names for 4 modules",
    ),
    "a pattern that is none": (lambda t, s: s.update(target_modules="(0|2"), "is no regular expression"),
    "a pattern of layers as an object": (
        lambda t, s: s.update(layers_to_transform=[0], layers_pattern={"layers": 1}),
        r"layers_pattern: found \{'layers': 1\}, wanted names",
    ),
    "flags in the middle": (lambda t, s: s.update(target_modules="(?i)0(?i)"), "is no regular expression"),
}


@claim(stage="load", subject="lora_lite")
def test_a_folder_that_does_not_fit_is_refused() -> None:
    """What peft would leave out or draw anew, with a warning at most: each by name, the model as before."""
    for what, (change, match) in DAMAGE.items():
        with exported(adapted()) as folder:
            change_folder(folder, change)
            refused(base(), folder, ll.CheckpointError, match, f"import of a folder with {what}")


def put(changed: dict[str, Any], tensors: object, settings: dict[str, Any]) -> None:
    settings |= changed


@claim(stage="load", subject="lora_lite")
def test_a_harmless_setting_is_no_reason_to_refuse() -> None:
    """What nothing depends on, and dropout with a warning: the other settings are those of any folder."""
    harmless = {
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "x",
        "megatron_core": "y",
        "layers_pattern": [],
    }
    for name, value in harmless.items():
        with exported(adapted()) as folder, assert_runs(f"import of a folder with {name}={value!r}"):
            change_folder(folder, partial(put, {name: value}))
            ll.import_peft(base(), folder)
    with exported(adapted()) as folder:
        change_folder(folder, partial(put, {"lora_dropout": 0.1}))
        with pytest.warns(UserWarning, match=r"lora_dropout=0\.1 is left out"):
            ll.import_peft(base(), folder)


@claim(stage="load", subject="lora_lite")
def test_a_pickle_is_never_opened() -> None:
    """The message tells how to get safetensors; a folder that is none is named, and so is a config that is
    none, or longer than one may be.
    """
    with scratch_folder() as folder:
        refused(base(), folder / "none", FileNotFoundError, "no such folder", "import of no folder")
        refused(base(), folder, FileNotFoundError, "adapter_config.json: no such file", "import of no config")
        (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "target_modules": ["0"]}))
        refused(base(), folder, FileNotFoundError, "safetensors: no such file", "import of no tensors")
        (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
        match = r"found adapter_model\.bin, wanted .*a pickle can run any code"
        refused(base(), folder, ll.CheckpointError, match, "import of a pickle")
        (folder / CONFIG).write_text("[" * 100_000)
        refused(base(), folder, ll.CheckpointError, "no valid JSON", "import of a config of brackets")
    with exported(adapted()) as folder:
        text = (folder / CONFIG).read_text()
        (folder / CONFIG).write_text(text + " " * (LONGEST_CONFIG - len(text)))
        with assert_runs("import of a config as long as it may be"):
            ll.import_peft(base(), folder)
        (folder / CONFIG).write_text(text + " " * (LONGEST_CONFIG + 1 - len(text)))
        refused(base(), folder, ll.CheckpointError, "longer than", "import of a config of mostly spaces")


@claim(stage="load", subject="lora_lite")
def test_an_export_knows_its_base_and_its_config() -> None:
    """Another base is refused but where the user says so; as are tensors and a config of two exports. Another
    name of the base is none.
    """
    with exported(adapted()) as folder:
        other: Any = base()
        other[0].weight.data.neg_()
        refused(other, folder, ll.BaseMismatchError, r"0\.weight: found", "import onto another base")
        ll.import_peft(other, folder, check_base=False)
        settings = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({**settings, "base_model_name_or_path": "elsewhere"}))
        with assert_runs("import of an export whose base has moved"):
            ll.import_peft(base(), folder)
        (folder / CONFIG).write_text(json.dumps({**settings, "lora_alpha": 5}))
        match = "are not what export_peft wrote together"
        refused(base(), folder, ll.CheckpointError, match, "import of another config than was exported")


@claim(stage="load", subject="lora_lite")
def test_a_strength_that_is_no_number_is_refused() -> None:
    """Of DELORA: also what Python would make one of."""
    for strength in ("15", True, None):
        with exported(several(ll.DeLoRAConfig(r=2, init="zero_b"))) as folder:
            change_folder(folder, partial(put, {"delora_lambda": strength}))
            match = f"delora_lambda: found {strength!r}, wanted a finite number"
            what = f"import of a folder with delora_lambda {strength!r}"
            refused(base(), folder, ll.CheckpointError, match, what)


def several(*configs: ll.AdapterConfig) -> nn.Module:
    model = base()
    for config in configs:
        ll.attach(model, config)
    return model


@claim(stage="save", subject="lora_lite")
def test_what_peft_cannot_have_is_not_exported() -> None:
    """Refused with the reason, and nothing is written."""
    tied = base()
    tied.append(tied[0])
    ll.attach(tied, ll.LoRAConfig(r=2, target_names=("0",)))
    zero: Any = several(ll.HRAConfig(r=2))
    zero[0].lora_lite.U.data.zero_()
    rows: Any = base()
    rows[2].weight.data[1] = 0
    ll.attach(rows, ll.DoRAConfig(r=2, target_names=("2",)))
    ranks = (ll.HRAConfig(r=2, target_names=("0",)), ll.HRAConfig(r=4, target_names=("2",)))
    mixed = (ll.LoRAConfig(r=2, target_names=("0",)), ll.DoRAConfig(r=2, target_names=("2",)))
    alone = nn.Linear(4, 4)
    ll.attach(alone, ll.LoRAConfig(r=2))
    for model, match in (
        (several(ll.AntiPaSTOConfig(r=4)), "0: peft has no antipasto"),
        (several(*mixed), "found lora on 0 and dora on 2, wanted adapters that one folder"),
        (several(*ranks), r"one rank for all layers, found \{'0': 2, '2': 4\}"),
        (alone, "the model itself is the layer"),
        (tied, "0: found the same layer at 3 too"),
        (zero, "0: a row of U is zero"),
        (rows, r"2: a row of W \+ s B A is zero"),
    ):
        with scratch_folder() as folder:
            with assert_refuses(ll.CheckpointError, match, claim=f"export of {ll.adapters_of(model)}"):
                ll.export_peft(model, folder / "adapter")
            assert_holds(not list(folder.iterdir()), claim="a refused export has made a folder")


@claim(stage="save", subject="lora_lite")
def test_adapters_of_one_method_share_a_folder() -> None:
    """Gates on outputs and inputs, and low-rank updates of three variants, ranks and alphas."""
    low = (
        ll.LoRAConfig(r=2, alpha=3, target_names=("0",)),
        ll.PiSSAConfig(r=1, alpha=5, target_names=("2",)),
    )
    gates = (ll.IA3Config(target_names=("0",)), ll.IA3FFConfig(target_names=("2",)))
    for configs, variants in ((low, ["lora"]), (gates, ["ia3", "ia3_ff"])):
        model = several(*configs)
        with torch.no_grad():
            for parameter in (p for adapter in ll.adapters_of(model) for p in adapter.parameters()):
                parameter.add_(0.25)
        with exported(model) as folder:
            handles = ll.import_peft(fresh := base(), folder)
        got = [handle.config.variant for handle in handles]
        assert_holds(got == variants, claim=f"import_peft returns handles of {got}, wanted {variants}")
        names, like = targets_of(model), "what was exported"
        assert_same_targets(targets_of(fresh), names, "import_peft")
        assert_same_layers({", imported,": fresh}, model, names, 0, like=like)


@claim(stage="save", subject="lora_lite")
def test_a_failed_export_leaves_the_folder_as_it_was() -> None:
    """The folder of before is whole, and what comes of it is the same."""
    with exported(adapted()) as folder:
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        model = adapted()
        next(ll.adapters_of(model)[0].parameters()).data.fill_(torch.nan)
        with assert_refuses(ll.CheckpointError, "NaN or Inf", claim="export of NaN"):
            ll.export_peft(model, folder)
        after = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert_holds(after == before, claim="a refused export has changed the folder")
