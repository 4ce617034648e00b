"""What is saved comes back, bit for bit."""

import math
from dataclasses import replace

from safetensors.torch import load_file

import lora_lite as ll
from properties.judging.assertions import assert_all_identical, assert_holds
from properties.judging.claim import every_variant
from properties.judging.files import scratch_file
from properties.judging.snapshot import base_tensors
from properties.subjects.lora_lite import implementation
from properties.subjects.observe import AnyCase, learnt, subject
from strategies import AdaptedLayer, AdaptedModel, adapted_models, trained_layers, trained_models


def check_round_trip(case: AnyCase) -> None:
    made = subject(case)
    before = learnt(made.model, case)
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
        assert_holds(
            live == wanted,
            claim=f"after load {sorted(live)} of {target} are trainable, wanted {sorted(wanted)}",
        )
    assert_all_identical(learnt(fresh, case), before, claim="after load, against what was saved")
    assert_all_identical(base_tensors(fresh), made.base, claim="load changed the base")


@every_variant(adapted_models, share=0.3)
def test_a_loaded_config_is_the_attached_one(case: AdaptedModel) -> None:
    """To the last digit: of the handle, and of each layer, which may have a rank of its own."""
    digits = tuple(
        (name, math.nextafter(v, math.inf) if isinstance(v, float) else v) for name, v in case.options
    )
    made = subject(replace(case, options=digits))
    path = scratch_file()
    try:
        ll.save(made.model, path)
        (loaded,) = ll.load(case.build(), path)
    finally:
        path.unlink()
    (attached,) = ll.adapters_of(made.model)
    assert_holds(
        loaded.config == attached.config, claim=f"loaded {loaded.config}, attached was {attached.config}"
    )
    got, wanted = ({name: layer.config for name, layer in one.layers().items()} for one in (loaded, attached))
    assert_holds(got == wanted, claim=f"the layers' loaded configs are {got}, attached were {wanted}")


@every_variant(trained_layers, share=0.5)
def test_file_holds_what_is_attached(case: AdaptedLayer) -> None:
    """Read by safetensors alone: every tensor under its target and name, bit for bit, and nothing else."""
    made = subject(case)
    path = scratch_file()
    try:
        implementation.save(made.model, path)
        held = load_file(path)
    finally:
        path.unlink()
    named = {
        f"{target}.{name}": t
        for target, own in implementation.tensors(made.model).items()
        for name, t in own.items()
    }
    assert_all_identical(held, named, claim="the file's tensors")


@every_variant(trained_layers)
def test_save_load_keeps_every_bit(case: AdaptedLayer) -> None:
    """Onto a fresh copy of the base: tensors bit-equal, trainable as before, outputs and gradients equal,
    base untouched.
    """
    check_round_trip(case)


@every_variant(trained_models, share=0.3)
def test_save_load_of_a_whole_model_keeps_every_bit(case: AdaptedModel) -> None:
    """The same on a model, calibration and per-layer ranks included."""
    check_round_trip(case)
