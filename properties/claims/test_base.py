"""The base law: whatever an adapter does, the base's parameters and buffers keep every bit."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lora_lite as ll
from properties.judging.assertions import assert_all_identical, assert_refuses
from properties.judging.claim import claim
from properties.judging.snapshot import assert_as_before, base_tensors, state_of
from properties.subjects import subject
from properties.subjects.attaching import AnyCase, attach, train
from properties.subjects.observation import default_run, observe
from strategies import AdaptedModel, adapted_models, gaussian


def mixed_up(case: AnyCase) -> nn.Module:
    """The base as a user may bring it: some parameters frozen, some modules in eval mode, hooks that look at
    every layer.
    """
    model = case.build().train()
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 3 != 1)
    for i, module in enumerate(model.modules()):
        module.training = i % 2 == 0
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(lambda layer, args: None)
            module.register_forward_hook(lambda layer, args, y: None)
    return model


@claim(adapted_models, stage="attach", share=0.3)
def test_base_keeps_every_bit(case: AdaptedModel) -> None:
    """Before attach, while attached, after training steps, after detach; and detach gives flags, modes and
    hooks back.
    """
    model = mixed_up(case)
    before = state_of(model)
    attached = attach(case, model)
    assert_all_identical(base_tensors(model), attached.base, what="the base after attach", like="as before")
    observe(attached)
    train(attached)
    assert_all_identical(base_tensors(model), attached.base, what="the base after training", like="as before")
    subject.detach(model)
    assert_all_identical(base_tensors(model), attached.base, what="the base after detach", like="as before")
    assert_as_before(model, before, claim="after detach")


@claim(adapted_models, stage="detach", share=0.3)
def test_detach_gives_the_base_output_back(case: AdaptedModel) -> None:
    """Bit for bit, after training."""
    plain = default_run(case)(case.build())
    attached = attach(case)
    train(attached)
    subject.detach(attached.model)
    assert_all_identical(
        {"output": default_run(case)(attached.model)},
        {"output": plain},
        what="the model after detach",
        like="as before",
    )


@contextmanager
def failing_at(variant: type[ll.Variant], last: int | None) -> Iterator[list[nn.Module]]:
    """Gathers the layers that are initialised, and raises at the one of this number; None for at none."""
    initialise, seen = variant.initialise, list[nn.Module]()

    def initialises(self: ll.Variant, layer: nn.Module, statistics: Any) -> None:
        seen.append(layer)
        if len(seen) == last:
            raise ll.ConfigError("on purpose")
        initialise(self, layer, statistics)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variant, "initialise", initialises)
        yield seen


@claim(adapted_models, stage="attach", needs=("transformers",), share=0.3, subject="lora_lite")
def test_a_failed_attach_leaves_the_model_as_before(case: AdaptedModel) -> None:
    """The last layer's initialisation fails; parameters, flags, hooks and modes are as before."""
    variant = ll.VARIANTS[case.variant]
    # How many there are is the variant's affair: a layer that calibration gives no rank is left alone.
    with failing_at(variant, None) as layers:
        attach(case)
    model = mixed_up(case)
    before = state_of(model)
    with failing_at(variant, len(layers)), assert_refuses(ll.ConfigError, "on purpose", claim="attach"):
        attach(case, model)
    assert_as_before(model, before, claim="after a failed attach")


@claim(stage="calibration")
def test_a_calibration_that_fails_leaves_the_model_as_before() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).train()
    model[1].eval()
    before = state_of(model)
    for data, match in (
        ([], "holds no batch"),
        ([torch.randn(3, 4), torch.full((3, 4), torch.nan)], "NaN or Inf"),
        ([torch.randn(1, 4)], "1 calibration tokens for 2 components"),
        ([torch.randn(1, 4).expand(9, 4)], "have rank 0, wanted 2"),
    ):
        with pytest.raises(ll.CalibrationError, match=match):
            ll.attach(model, ll.EVAConfig(r=2), data)
        assert_as_before(model, before, claim="after a failed calibration")


@claim(stage="calibration")
def test_a_batch_that_the_model_does_not_take_is_named() -> None:
    """By its number and kind, with what the model says; the model is as before."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    before = state_of(model)
    good = gaussian(0, "batch", (9, 4))
    for bad, kind in (
        (good[:, :3], "Tensor"),
        ((good, good), "tuple"),
        ({"y": good}, "dict"),
        ("text", "str"),
    ):
        match = f"batch 1 of the calibration data, a {kind}: the model raised .*Wanted a tensor"
        with assert_refuses(ll.CalibrationError, match, claim=f"a batch that is {kind}"):
            ll.attach(model, ll.EVAConfig(r=2), [good, bad])
        assert_as_before(model, before, claim=f"after a batch that is {kind}")


@claim(stage="load")
def test_a_refused_load_leaves_the_model_as_before() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    ll.attach(model, ll.LoRAConfig(r=2))
    other = nn.Sequential(nn.Linear(4, 4))
    before = state_of(other)
    with tempfile.TemporaryDirectory() as folder:
        ll.save(model, path := Path(folder) / "a.safetensors")
        with pytest.raises(ll.BaseMismatchError):
            ll.load(other, path)
    assert_as_before(other, before, claim="after a refused load")
