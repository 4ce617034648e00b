"""The base law: whatever an adapter does, the base's parameters and buffers keep every bit."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lora_lite as ll
from properties.judging.assertions import Violation, assert_all_identical, assert_holds, assert_refuses
from properties.judging.claim import every_variant, fact
from properties.judging.snapshot import assert_as_before, base_tensors, state_of
from properties.subjects.lora_lite import implementation
from properties.subjects.observe import AnyCase, default_run, observe, subject, train
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


@every_variant(adapted_models, share=0.3)
def test_base_keeps_every_bit(case: AdaptedModel) -> None:
    """Before attach, while attached, after training steps, after detach; and detach gives flags, modes and
    hooks back.
    """
    model = mixed_up(case)
    before = state_of(model)
    made = subject(case, model)
    assert_all_identical(base_tensors(model), made.base, claim="attach changed the base")
    observe(made)
    train(made)
    assert_all_identical(base_tensors(model), made.base, claim="training changed the base")
    implementation.detach(model)
    assert_all_identical(base_tensors(model), made.base, claim="detach changed the base")
    assert_as_before(model, before, claim="after detach")


@every_variant(adapted_models, share=0.3)
def test_detach_gives_the_base_output_back(case: AdaptedModel) -> None:
    """Bit for bit, after training."""
    plain = default_run(case)(case.build())
    made = subject(case)
    train(made)
    implementation.detach(made.model)
    assert_all_identical({"output": default_run(case)(made.model)}, {"output": plain}, claim="after detach")


@every_variant(adapted_models, share=0.3)
def test_a_failed_attach_leaves_the_model_as_before(case: AdaptedModel) -> None:
    """The last layer's initialisation fails; parameters, flags, hooks and modes are as before."""
    model = mixed_up(case)
    before = state_of(model)
    variant = ll.VARIANTS[case.variant]
    calls, targets = 0, 0
    for module in model.modules():
        targets += isinstance(module, nn.Linear)
    initialise = variant.initialise

    def fails_late(self: ll.Variant, layer: nn.Module, statistics: Any) -> None:
        nonlocal calls
        calls += 1
        if calls >= 3:
            raise ll.ConfigError("on purpose")
        initialise(self, layer, statistics)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variant, "initialise", fails_late)
        try:
            subject(case, model)
        except ll.ConfigError as error:
            assert_holds("on purpose" in str(error), claim=f"attach failed with {error}")
    assert_holds(calls >= 3, claim=f"attach initialised {calls} layers only")
    assert_as_before(model, before, claim="after a failed attach")


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


@fact
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


def swap_a_hook(model: Any) -> None:
    model[1]._forward_hooks.clear()
    model[1].register_forward_hook(lambda layer, args, y: 0 * y)


CHANGES: dict[str, Callable[[Any], object]] = {
    "identity": lambda model: model[1].register_parameter(
        "bias", nn.Parameter(model[1].bias.detach().clone())
    ),
    "bits": lambda model: model[0].running_mean.neg_(),  # 0 is equal to what it was
    "requires_grad": lambda model: model[1].weight.requires_grad_(False),
    "training": lambda model: model[1].eval(),
    "hooks": swap_a_hook,
    "attributes": lambda model: setattr(model[1], "left", None),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changed_of_a_model_is_told(what: str) -> None:
    """A test of the instrument that most of these claims rest on."""
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4))
    model[1].register_forward_hook(lambda layer, args, y: None)
    before = state_of(model)
    assert_as_before(model, before, claim="at once")
    CHANGES[what](model)
    with pytest.raises(Violation, match=f"^later: {what} changed: [01]"):
        assert_as_before(model, before, claim="later")
