"""What is saved comes back, bit for bit."""

import math
from dataclasses import replace

from safetensors.torch import load_file

import lora_lite as ll
from properties.judging.agreement import assert_loaded, round_trip
from properties.judging.assertions import assert_all_identical, assert_holds
from properties.judging.claim import claim
from properties.judging.files import scratch_file
from properties.judging.snapshot import base_tensors
from properties.subjects import subject
from properties.subjects.attaching import AnyCase, attach
from properties.subjects.observation import learnt
from strategies import AdaptedLayer, AdaptedModel, adapted_models, trained_layers, trained_models


def check_round_trip(case: AnyCase) -> None:
    attached = attach(case)
    before, saved = learnt(attached.model, case), subject.tensors(attached.model)
    fresh = round_trip(attached.model, case.build())
    assert_loaded(fresh, saved)
    for target, tensors in subject.tensors(fresh).items():
        live = {n for n, t in tensors.items() if t.requires_grad}
        wanted = {n for n, t in saved[target].items() if t.requires_grad}
        found = f"after load {sorted(live)} of {target} are trainable, wanted {sorted(wanted)}"
        assert_holds(live == wanted, claim=found)
    what = "the output or gradient after load"
    assert_all_identical(learnt(fresh, case), before, what=what, like="what it was before save")
    assert_all_identical(base_tensors(fresh), attached.base, what="the base after load", like="as before")


@claim(trained_layers, stage="load")
def test_save_load_keeps_every_bit(case: AdaptedLayer) -> None:
    """Onto a fresh copy of the base: tensors, outputs and gradients bit for bit, and trainable as before."""
    check_round_trip(case)


@claim(trained_models, stage="load", needs=("transformers",), share=0.3)
def test_save_load_of_a_whole_model_keeps_every_bit(case: AdaptedModel) -> None:
    """The same on a model, calibration and per-layer ranks included."""
    check_round_trip(case)


@claim(adapted_models, stage="load", needs=("transformers",), share=0.3, subject="lora_lite")
def test_a_loaded_config_is_the_attached_one(case: AdaptedModel) -> None:
    """To the last digit: of the handle, and of each layer, which may have a rank of its own."""
    last = tuple(
        (name, math.nextafter(v, math.inf) if isinstance(v, float) else v) for name, v in case.options
    )
    model = attach(replace(case, options=last)).model
    (attached,), (loaded,) = (ll.adapters_of(one) for one in (model, round_trip(model, case.build())))
    found = f"loaded {loaded.config}, attached was {attached.config}"
    assert_holds(loaded.config == attached.config, claim=found)
    got, wanted = ({name: layer.config for name, layer in one.layers().items()} for one in (loaded, attached))
    assert_holds(got == wanted, claim=f"the layers' loaded configs are {got}, attached were {wanted}")


@claim(trained_layers, stage="save", share=0.5, subject="lora_lite")
def test_file_holds_what_is_attached(case: AdaptedLayer) -> None:
    """Read by safetensors alone: every tensor under its target and name, bit for bit, and nothing else."""
    model = attach(case).model
    with scratch_file() as path:
        subject.save(model, path)
        held = load_file(path)
    layers = subject.tensors(model)
    named = {f"{target}.{name}": t for target, own in layers.items() for name, t in own.items()}
    assert_all_identical(held, named, what="the content of the file", like="what is attached")
