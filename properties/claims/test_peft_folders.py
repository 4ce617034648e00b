"""peft reads what export_peft writes, import_peft reads what peft writes, and the layers compute the same."""

import copy
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

import lora_lite as ll
from properties.judging.assertions import assert_all_identical, assert_holds
from properties.judging.claim import claim
from properties.judging.files import adapted, base
from properties.judging.peft_folders import (
    IN_PEFT,
    adapted_by_peft,
    assert_same_layers,
    assert_same_targets,
    change_folder,
    exported,
    imported,
    read_by_peft,
    targets_of,
    written_by_peft,
)
from properties.subjects import subject
from properties.subjects.attaching import attach
from strategies import AdaptedModel, trained_models
from strategies.peft_folders import METHODS, PeftFolder, peft_folders

# What comes back as the same variant, bit for bit; the gates' offset from 1 is rounded on its way.
KEPT = ("lora", "dora", "hra", "eva")


def models(variant: str) -> st.SearchStrategy[AdaptedModel]:
    """Weights without zero rows, for which peft's own layers give NaN; peft knows none that are turned but
    transformers' own.
    """
    wide = ("float32", "float64")
    return trained_models(variant, dtypes=wide, weights=("gaussian",), turns=(False,), adapter_dtypes=wide)


FOLDERS: dict[str, Any] = {"about": IN_PEFT, "subject": "lora_lite", "needs": ("transformers",)}


@claim(models, stage="save", share=0.3, about=IN_PEFT, subject="lora_lite", needs=("transformers", "peft"))
def test_peft_reads_an_export(case: AdaptedModel) -> None:
    """Without a warning, onto the same layers, each of which gives the same."""
    made = attach(case)
    with exported(made.model) as folder:
        theirs = read_by_peft(case.build(), folder)
    names = targets_of(made.model)
    assert_same_targets(adapted_by_peft(theirs), names, "peft, given the export,")
    assert_same_layers({" in peft": theirs}, made.model, names, case.seed, like="what was exported")


@claim(models, stage="load", share=0.3, **FOLDERS)
def test_an_export_comes_back(case: AdaptedModel) -> None:
    """By import_peft, onto the same layers, each of which gives the same; a variant that peft has too with
    the same tensors.
    """
    made = attach(case)
    with exported(made.model) as folder:
        imported(fresh := case.build(), folder)
    names = targets_of(made.model)
    assert_same_targets(targets_of(fresh), names, "import_peft")
    assert_same_layers({", imported,": fresh}, made.model, names, case.seed, like="what was exported")
    if case.variant in KEPT:
        for name, wanted in subject.tensors(made.model).items():
            got = {own: tensor.to(wanted[own].dtype) for own, tensor in subject.tensors(fresh)[name].items()}
            assert_all_identical(got, wanted, what=f"the imported adapter of {name}", like="the exported")


@claim(peft_folders, stage="load", share=0.5, about=tuple(METHODS), subject="lora_lite", needs=("peft",))
def test_import_reads_what_peft_wrote(case: PeftFolder) -> None:
    """Whatever its config says of layers, ranks and alphas: the same layers, and each gives the same."""
    with written_by_peft(case, case.build()) as (theirs, folder):
        handles = imported(ours := case.build(), folder)
    names = adapted_by_peft(theirs)
    assert_same_targets(targets_of(ours), names, "import_peft")
    assert_same_layers({" in peft": theirs}, ours, names, case.seed, like="what import_peft made of it")
    found = f"import_peft returns {len(handles)} handles, the model has {len(ll.adapters_of(ours))}"
    assert_holds(tuple(handles) == ll.adapters_of(ours), claim=found)


class Ends(nn.Module):
    """Layers whose names are ends of others' names, with a dot before them and without."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 4)
        self.x_up = nn.Linear(4, 4)
        self.inner = nn.ModuleDict({"up": nn.Linear(4, 4)})


@claim(stage="save", subject="lora_lite", needs=("peft",))
def test_an_export_means_no_other_layer_than_it_names() -> None:
    """Of its targets, its ranks and alphas, and its gates on inputs: each layer gives the same in peft."""
    low = (ll.LoRAConfig(r=2, alpha=3, target_names=(r"inner\.up", "x_up")),)
    one = ll.LoRAConfig(r=1, alpha=5, target_names=("up",), exclude_names=(r"inner\.up",))
    on_inputs = ll.IA3FFConfig(target_names=("up",), exclude_names=(r"inner\.up",))
    for configs in ((one,), (*low, one), (ll.IA3Config(target_names=(r"inner\.up", "x_up")), on_inputs)):
        model = copy.deepcopy(plain := Ends())
        for config in configs:
            ll.attach(model, config)
        for parameter in (p for adapter in ll.adapters_of(model) for p in adapter.parameters()):
            parameter.data.add_(0.5)
        with exported(model) as folder:
            theirs = read_by_peft(copy.deepcopy(plain), folder)
            imported(ours := copy.deepcopy(plain), folder)
        names = targets_of(model)
        for read, who in ((theirs, "peft"), (ours, "import_peft")):
            assert_same_targets(adapted_by_peft(read) or targets_of(read), names, f"{who}, given the export,")
        both = {", as peft has it,": theirs, ", as import_peft has it,": ours}
        assert_same_layers(both, model, names, 0, like="what was exported")


@claim(stage="load", subject="lora_lite")
def test_an_imported_adapter_has_the_widest_dtype_of_its_file() -> None:
    """float32 at least, as peft computes; whichever of the tensors it is."""
    half, single, double = torch.bfloat16, torch.float32, torch.float64
    for first, others, wanted in ((half, half, single), (double, half, double), (half, double, double)):
        with exported(adapted()) as folder:
            change_folder(folder, partial(cast, first, others))
            (handle,) = ll.import_peft(base(), folder)
        found = f"import of tensors of {first}, {others} from the second on, is of {handle.config.dtype}"
        assert_holds(handle.config.dtype == wanted, claim=f"{found}, wanted {wanted}")


def cast(
    first: torch.dtype, others: torch.dtype, tensors: dict[str, torch.Tensor], settings: dict[str, Any]
) -> None:
    for i, name in enumerate(sorted(tensors)):
        tensors[name] = tensors[name].to(others if i else first)
