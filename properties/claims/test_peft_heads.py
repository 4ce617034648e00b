"""Heads that train whole beside an adapter: modules_to_save in peft, full layers here."""

import copy
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

import lora_lite as ll
from properties.judging.assertions import assert_holds, assert_refuses
from properties.judging.claim import claim
from properties.judging.files import scratch_folder
from properties.judging.peft_folders import (
    CONFIG,
    IN_PEFT,
    adapted_by_peft,
    assert_same_layers,
    assert_same_targets,
    change_folder,
    exported,
    imported,
    read_by_peft,
    targets_of,
)
from properties.judging.snapshot import assert_as_before, snapshot_of
from properties.subjects import subject
from strategies import gaussian
from strategies.options import build_config, simplest


class Classifier(nn.Module):
    """A body and a head, drawn anew at every call but for the body."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 4)
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 3)
        for name, parameter in (*self.up.named_parameters(), *self.down.named_parameters()):
            parameter.data.copy_(gaussian(0, name, tuple(parameter.shape)))


def trained(variant: str) -> nn.Module:
    model = Classifier()
    unused = ll.VARIANTS[variant].config_class.unused
    own = tuple((name, value) for name, value in (("r", 2), ("alpha", 5.0)) if name not in unused)
    config = build_config(variant, (*own, *simplest(variant)), target_names=("up", "down"))
    model.forward = lambda x: model.head(model.down(model.up(x)))
    handles = [ll.attach(model, config, [torch.randn(20, 4)])]
    del model.forward
    handles.append(ll.attach(model, ll.FullConfig(target_names=("head",))))
    for parameter in (p for handle in handles for p in handle.parameters()):
        parameter.data.add_(0.5 * gaussian(1, "step", tuple(parameter.shape)))
    return model


@claim(st.just, stage="save", about=IN_PEFT, subject="lora_lite", needs=("peft",))
def test_a_head_travels_with_any_adapter(variant: str) -> None:
    """To peft and back, onto a model whose head was drawn anew: its layers and its head give the same."""
    model = trained(variant)
    names = targets_of(model)
    with exported(model) as folder:
        theirs = read_by_peft(Classifier(), folder)
        handles = imported(back := Classifier(), folder)
    assert_same_targets(adapted_by_peft(theirs), ["up", "down"], "peft, given the export,")
    assert_same_targets(targets_of(back), names, "import_peft")
    both = {" in peft": theirs, ", imported,": back}
    assert_same_layers(both, model, names, 0, like="what was exported")
    last = handles[-1].config.variant
    assert_holds(last == "full", claim=f"the handle of an imported head is of {last}")


@claim(stage="load", subject="lora_lite", needs=("peft",))
def test_import_reads_a_head_that_peft_saved() -> None:
    """With the names that peft puts there of itself, of which the model has one."""
    import peft

    base = Classifier()
    config = peft.LoraConfig(r=2, target_modules=["up"], modules_to_save=["classifier", "head"])
    config.init_lora_weights = False
    theirs: Any = peft.get_peft_model(copy.deepcopy(base), config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.requires_grad:
                parameter.add_(gaussian(0, name, tuple(parameter.shape)))
    with scratch_folder() as folder:
        theirs.save_pretrained(folder)
        imported(base, folder)
    assert_same_targets(targets_of(base), ["up", "head"], "import_peft")
    read, like = {" in peft": theirs.base_model.model}, "what import_peft made of it"
    assert_same_layers(read, base, ["up", "head"], 0, like=like)


# What, how a folder is changed to it, and what is said of it; peft leaves the last to modules_to_save.
CHANGED_HEADS: tuple[tuple[str, Callable[[Any, Any], Any], str | None], ...] = (
    (
        "a norm",
        lambda t, s: s["modules_to_save"].append("norm"),
        "means norm, a LayerNorm, wanted linear",
    ),
    (
        "a module that is not there",
        lambda t, s: s.update(modules_to_save=["score"]),
        "names score, of which",
    ),
    (
        "half of a layer",
        lambda t, s: t.pop("base_model.model.head.bias"),
        "head: its tensor bias is missing",
    ),
    ("an adapter on it", lambda t, s: s["target_modules"].append("head"), None),
)


@claim(stage="load", subject="lora_lite")
def test_whole_layers_that_are_none_of_ours_are_refused() -> None:
    """A norm, a name that the model lacks, half a layer; and, written, a layer whose name ends as another's,
    or nothing beside whole layers. Nothing is changed.
    """
    for what, change, match in CHANGED_HEADS:
        with exported(trained("lora")) as folder:
            change_folder(folder, change)
            before = snapshot_of(model := Classifier())
            if match is None:
                imported(model, folder)
                continue
            with assert_refuses(ll.CheckpointError, match, claim=f"import with modules_to_save of {what}"):
                ll.import_peft(model, folder)
            assert_as_before(model, before, claim=f"after a refused import with {what}")
    alone: nn.Module = Classifier()
    double = trained("lora")
    double.old_head = nn.Linear(4, 3)
    ll.attach(alone, ll.FullConfig(target_names=("head",)))
    for headed, match in (
        (alone, r"nothing but whole layers \(head\)"),
        (double, "head: old_head ends in the same way"),
    ):
        with scratch_folder() as folder:
            with assert_refuses(
                ll.CheckpointError, match, claim=f"export of {subject.tensors(headed).keys()}"
            ):
                ll.export_peft(headed, folder / "adapter")
            assert_holds(not list(folder.iterdir()), claim="a refused export has made a folder")


def of_transformers(end: str, head: str, **own: Any) -> nn.Module:
    """LoRA on a classifier with another head more, whose class is called as one of transformers is."""
    marks = {"__module__": "transformers.models.own", "main_input_name": "input_ids"}
    model: Any = type(f"Own{end}", (Classifier,), {**marks, **own})()
    model.add_module(head, nn.Linear(4, 3))
    ll.attach(model, ll.LoRAConfig(r=2, target_names=("up",)))
    return model  # type: ignore[no-any-return]


def told_of(model: nn.Module) -> tuple[Any, Any]:
    with scratch_folder() as folder:
        ll.export_peft(model, folder)
        settings = json.loads((folder / CONFIG).read_text())
    return settings["task_type"], settings["auto_mapping"]


@claim(stage="save", subject="lora_lite")
def test_an_export_tells_the_task_where_peft_may_know_it() -> None:
    """By the class, for what reads text; of a task with a head where that is in the file, as peft looks for
    it there. Else it tells the class.
    """
    two, one = SimpleNamespace(is_encoder_decoder=True), SimpleNamespace(is_encoder_decoder=False)
    for end, own, task in (
        ("ForCausalLM", {}, "CAUSAL_LM"),
        ("ForConditionalGeneration", {"config": two}, "SEQ_2_SEQ_LM"),
        ("ForConditionalGeneration", {"config": one}, None),
        ("ForCausalLM", {"main_input_name": "input_features"}, None),
        ("ForCausalLM", {"__module__": "mine"}, None),
        ("Model", {}, None),
    ):
        got, mapping = told_of(model := of_transformers(end, "other", **own))
        kind = type(model)
        name = None if task else {"base_model_class": kind.__name__, "parent_library": kind.__module__}
        found = (
            f"an export of {kind.__name__}, {own}, tells {got!r} and {mapping}, wanted {task!r} and {name}"
        )
        assert_holds((got, mapping) == (task, name), claim=found)
    for end, head, task in (
        ("ForSequenceClassification", "score", "SEQ_CLS"),
        ("ForTokenClassification", "classifier", "TOKEN_CLS"),
        ("ForQuestionAnswering", "qa_outputs", "QUESTION_ANS"),
    ):
        model = of_transformers(end, head)
        bare, _ = told_of(model)
        assert_holds(bare is None, claim=f"an export tells {bare!r}, and the base's own {head} is not in it")
        ll.attach(model, ll.FullConfig(target_names=(head,)))
        got, _ = told_of(model)
        assert_holds(got == task, claim=f"an export with its {head} tells {got!r}, wanted {task!r}")
