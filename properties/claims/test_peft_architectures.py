"""peft's folders on architectures of transformers, and on the weights of a real encoder."""

import copy
import gc
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import assert_close, assert_holds, assert_refuses
from properties.judging.claim import claim
from properties.judging.files import scratch_folder
from properties.judging.outcome import show
from properties.judging.own_bound import own_results
from properties.judging.peft_folders import (
    IN_PEFT,
    adapted_by_peft,
    assert_same_layers,
    assert_same_targets,
    exported,
    imported,
    read_by_peft,
    targets_of,
    written_by_peft,
)
from properties.judging.tolerance import Bounded
from properties.subjects.attaching import Attached, attach, train
from properties.subjects.pretrained import POOLER, PretrainedCase, pretrained_case
from strategies.architectures import ARCHITECTURES, Architecture
from strategies.options import build_config
from strategies.peft_folders import METHODS, EncoderFolder

SLOW: dict[str, Any] = {"subject": "lora_lite", "slow": True}
OPTIONS = {"r": 2, "alpha": 5.0}


def adapted(architecture: Architecture, variant: str) -> nn.Module:
    """Away from init, on all linear layers but the heads."""
    unused = ll.VARIANTS[variant].config_class.unused
    options = tuple((name, value) for name, value in OPTIONS.items() if name not in unused)
    model = architecture.build()
    config = build_config(variant, options, exclude_names=architecture.excluded)
    data = [architecture.given(seed)[1] for seed in (1, 2, 3)]
    handle = ll.attach(model, config, data)
    with torch.no_grad():
        for i, parameter in enumerate(handle.parameters()):
            generator = torch.Generator().manual_seed(i)
            step = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
            parameter.add_(0.3 * step.to(parameter.device))
    return model


def logits(architecture: Architecture, model: nn.Module, x: Tensor | None = None) -> Tensor:
    main, given = architecture.given()
    with torch.no_grad():
        return model(**(given if x is None else {**given, main: x})).logits  # type: ignore[no-any-return]


def refused_by_layout(model: nn.Module) -> None:
    with (
        scratch_folder() as folder,
        assert_refuses(ll.CheckpointError, r"for nn\.Linear alone", claim="export"),
    ):
        ll.export_peft(model, folder)


def computed(architecture: Architecture, model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    return {"logits": logits(architecture, model, x)}


@claim(st.just, stage="save", about=IN_PEFT, needs=("transformers", "peft"), **SLOW)
def test_peft_reads_an_export_on_every_architecture(variant: str) -> None:
    """And import_peft reads it back: the logits are those of the exported model, as far as both round; the
    adapter acts in each.
    """
    table = {}
    for name, architecture in ARCHITECTURES.items():
        model, plain = adapted(architecture, variant), architecture.build()
        main, given = architecture.given()
        if (variant, name) == ("hra", "GPT-2"):
            # Its layers store (d_in, d_out), which peft's HRA does not know.
            refused_by_layout(model)
            continue
        own = own_results(model, given[main], partial(computed, architecture))["logits"]
        twice = Bounded(own.value, 2 * own.error)
        with exported(model) as folder:
            theirs = read_by_peft(copy.deepcopy(plain), folder)
            imported(back := copy.deepcopy(plain), folder)
        assert_same_targets(adapted_by_peft(theirs), targets_of(model), f"peft, on {name},")
        assert_same_targets(targets_of(back), targets_of(model), f"import_peft, on {name},")
        for read, who in ((theirs, "in peft"), (back, "imported")):
            what = f"the logits of {name}, {who},"
            assert_close(logits(architecture, read), twice, what=what, like="those of what was exported")
        acts = logits(architecture, model).double() - logits(architecture, plain).double()
        found = f"the adapter on {name} changes the logits by {acts.abs().max():.2g}, less than rounding may"
        assert_holds(bool((acts.abs() > 4 * twice.error).any()), claim=found)
        off = (logits(architecture, theirs).double() - own.value).abs().max()
        table[name] = {"layers": len(targets_of(model)), "acts": float(acts.abs().max()), "off": float(off)}
    show(architectures=table)


def encoders(variant: str) -> st.SearchStrategy[PretrainedCase]:
    return st.just(pretrained_case(variant))


@claim(encoders, stage="save", about=IN_PEFT, needs=("minilm", "transformers", "peft"), **SLOW)
def test_peft_reads_an_export_on_a_real_encoder(case: PretrainedCase) -> None:
    """All 36 layers of MiniLM, each of which gives the same."""
    one: Any = case
    gc.collect()
    made: Attached = attach(one, exclude_names=(POOLER,))
    train(made)
    names = targets_of(made.model)
    with exported(made.model) as folder:
        theirs = read_by_peft(case.build(), folder)
        imported(back := case.build(), folder)
    assert_same_targets(adapted_by_peft(theirs), names, "peft, given the export,")
    assert_same_targets(targets_of(back), names, "import_peft")
    both = {" in peft": theirs, ", imported,": back}
    assert_same_layers(both, made.model, names, 0, like="what was exported")


def folders(variant: str) -> st.SearchStrategy[EncoderFolder]:
    return st.sampled_from([EncoderFolder(variant, model) for model in ("MiniLM", "Qwen3")])


@claim(folders, stage="load", about=tuple(METHODS), needs=("minilm", "transformers", "peft"), **SLOW)
def test_import_reads_what_peft_wrote_on_real_models(case: EncoderFolder) -> None:
    """Its defaults for MiniLM and a small Qwen3, its own init moved."""
    gc.collect()
    model = pretrained_case("lora").build() if case.model == "MiniLM" else ARCHITECTURES["Qwen3"].build()
    with written_by_peft(case, copy.deepcopy(model)) as (theirs, folder):
        imported(model, folder)
    names = adapted_by_peft(theirs)
    assert_same_targets(targets_of(model), names, "import_peft")
    assert_same_layers({" in peft": theirs}, model, names, 0, like="what import_peft made of it")
