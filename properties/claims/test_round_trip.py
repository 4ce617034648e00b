"""What is saved comes back, bit for bit."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import load_file

import lora_lite as ll
from properties.judging.agreement import assert_loaded, round_trip
from properties.judging.assertions import (
    Violation,
    assert_all_identical,
    assert_holds,
    assert_identical,
    assert_runs,
)
from properties.judging.claim import claim
from properties.judging.files import adapted, base, saved, scratch_file
from properties.judging.fixed_models import Stack, on
from properties.judging.snapshot import base_tensors
from properties.subjects import subject
from properties.subjects.attaching import AnyCase, attach
from properties.subjects.layer_runs import learnt
from strategies import AdaptedLayer, AdaptedModel, adapted_models, trained_layers, trained_models


def check_round_trip(case: AnyCase) -> None:
    attached = attach(case)
    before, held = learnt(attached.model, case), subject.tensors(attached.model)
    fresh = round_trip(attached.model, case.build())
    assert_loaded(fresh, held)
    for target, tensors in subject.tensors(fresh).items():
        live = {n for n, t in tensors.items() if t.requires_grad}
        wanted = {n for n, t in held[target].items() if t.requires_grad}
        found = f"after load {sorted(live)} of {target} are trainable, wanted {sorted(wanted)}"
        assert_holds(live == wanted, claim=found)
    what = "the output or gradient after load, with all declared tensors back"
    assert_all_identical(learnt(fresh, case), before, what=what, like="what it was before save")
    assert_all_identical(base_tensors(fresh), attached.base, what="the base after load", like="as before")


@claim(trained_layers, stage="save")
def test_save_load_keeps_every_bit(case: AdaptedLayer) -> None:
    """Onto a fresh copy of the base: tensors, outputs and gradients bit for bit, and trainable as before."""
    check_round_trip(case)


@claim(trained_models, stage="save", needs=("transformers",), share=0.3)
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
    found = f"the loaded config is {loaded.config}, the attached one was {attached.config}"
    assert_holds(loaded.config == attached.config, claim=found)
    got, wanted = ({name: layer.config for name, layer in one.layers().items()} for one in (loaded, attached))
    assert_holds(
        got == wanted, claim=f"the layers' loaded configs are {got}, the attached ones were {wanted}"
    )


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


@claim(stage="save", subject="lora_lite")
def test_several_adapters_travel_together() -> None:
    """ia3 on one layer and ia3_ff on another, in one file; each keeps its config and its targets."""
    model = base()
    ll.attach(model, ll.IA3Config(target_names=("0",)))
    ll.attach(model, ll.IA3FFConfig(target_names=("2",)))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.fill_(0.5)
    with saved(model) as path:
        handles = ll.load(fresh := base(), path)
    got, wanted = ([(h.config, h.targets) for h in own] for own in (handles, ll.adapters_of(model)))
    found = f"loaded configs and targets are {got}, saved ones were {wanted}"
    assert_holds(got == wanted, claim=found)
    given = torch.ones(4, 6)
    what = "the output of a model with two adapters, after load,"
    assert_identical(fresh(given), model(given), what=what, like="that before save")


@claim(st.just, stage="save", about=("eva",), subject="lora_lite")
def test_a_file_that_is_loaded_and_saved_again_is_the_same(variant: str) -> None:
    """Byte for byte; eva makes a float of each layer's alpha, where the config has a whole number."""
    config: Any = ll.VARIANTS[variant].config_class
    model = base()
    ll.attach(model, config(r=2, alpha=16, target_names=("0",)), [torch.randn(20, 6)])
    with saved(model) as path:
        ll.load(fresh := base(), path)
        with saved(fresh) as again:
            found = f"the file of a loaded {variant} adapter, saved again, is another than the one loaded"
            assert_holds(again.read_bytes() == path.read_bytes(), claim=found)


@claim(stage="load", subject="lora_lite")
def test_what_was_loaded_needs_its_file_no_longer() -> None:
    """Another one may be written over it, in place."""
    with saved() as path:
        ll.load(model := base(), path)
        wanted = model(torch.ones(1, 6)).detach()
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
        what = "the output after the file that was loaded was overwritten"
        assert_identical(model(torch.ones(1, 6)).detach(), wanted, what=what, like="as before")


@claim(stage="load", subject="lora_lite")
def test_load_casts_where_asked() -> None:
    """Only then; and the handle's config says so."""
    with saved() as path:
        for asked, wanted in ((torch.bfloat16, torch.bfloat16), (None, torch.float32)):
            (handle,) = ll.load(base(), path, dtype=asked)
            dtypes = {name: parameter.dtype for name, parameter in handle.named_parameters()}
            found = f"load with dtype={asked} gives {dtypes}, wanted {wanted}"
            assert_holds(set(dtypes.values()) == {wanted}, claim=found)
            found = f"after load with dtype={asked} the config says {handle.config.dtype}, wanted {wanted}"
            assert_holds(handle.config.dtype == wanted, claim=found)


@claim(st.just, stage="load", subject="lora_lite")
def test_load_runs_no_decomposition(variant: str) -> None:
    """No SVD and no PCA: what they gave is in the file."""

    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise Violation(f"load of {variant} computes a decomposition")

    on(model := Stack(), variant)
    with saved(model) as path, pytest.MonkeyPatch.context() as patch:
        for function in ("linalg.svd", "linalg.svdvals", "svd_lowrank", "linalg.eigh"):
            patch.setattr(f"torch.{function}", forbidden)
        ll.load(Stack(), path)


@claim(stage="save", subject="lora_lite")
def test_a_cast_model_saves_what_its_tensors_are() -> None:
    """The header's dtype is the tensors', not the one asked for at attach."""
    model, plain = adapted().half(), base().half()
    with assert_runs("save and load of a model that was cast"), saved(model) as path:
        (handle,) = ll.load(plain, path)
    found = f"after half(), save and load the config says {handle.config.dtype}, wanted torch.float16"
    assert_holds(handle.config.dtype == torch.float16, claim=found)
