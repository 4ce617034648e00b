"""What attach leaves on a model: hooks, parameters, flags, and the handle that lists them; and that the base
stays what it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

import lora_lite as ll
from properties.judging.assertions import (
    assert_all_identical,
    assert_finite,
    assert_holds,
    assert_identical,
    assert_refuses,
)
from properties.judging.claim import claim
from properties.judging.files import saved
from properties.judging.fixed_models import (
    NO_HOOK,
    Stack,
    assert_trains,
    blocked,
    moved,
    on,
    simple_config,
    x,
)
from properties.judging.snapshot import assert_as_before, base_tensors, hooked, snapshot_of
from properties.subjects import subject
from properties.subjects.attaching import AnyCase, attach, train
from properties.subjects.layer_runs import default_run, run_layers
from strategies import LINEAR, AdaptedModel, adapted_models
from strategies.codes import Coded
from strategies.tensors import device


def mixed_up(case: AnyCase) -> nn.Module:
    """The base as a user may bring it: some parameters frozen, some modules in eval mode, hooks that look at
    every layer; and a −0 in every weight, which only its bits tell from 0.
    """
    model = case.build().train()
    for weight in (p.detach() for p in model.parameters() if p.ndim == 2):
        weight[0, 0] = -0.0
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 3 != 1)
    for i, module in enumerate(model.modules()):
        module.training = i % 2 == 0
        if isinstance(module, LINEAR):
            module.register_forward_pre_hook(lambda layer, args: None)
            module.register_forward_hook(lambda layer, args, y: None)
    return model


@claim(adapted_models, stage="attach", needs=("transformers",), share=0.3)
def test_base_keeps_every_bit(case: AdaptedModel) -> None:
    """Before attach, while attached, after training steps, after detach; and detach gives flags, modes and
    hooks back.
    """
    model = mixed_up(case)
    before = snapshot_of(model)
    attached = attach(case, model)
    assert_all_identical(base_tensors(model), attached.base, what="the base after attach", like="as before")
    run_layers(attached)
    train(attached)
    assert_all_identical(base_tensors(model), attached.base, what="the base after training", like="as before")
    subject.detach(model)
    assert_all_identical(base_tensors(model), attached.base, what="the base after detach", like="as before")
    assert_as_before(model, before, claim="after detach")


@claim(adapted_models, stage="detach", needs=("transformers",), share=0.3)
def test_detach_gives_the_base_output_back(case: AdaptedModel) -> None:
    """Bit for bit, after training."""
    plain = default_run(case)(case.build())
    attached = attach(case)
    train(attached)
    subject.detach(attached.model)
    what = "the output after detach"
    assert_identical(default_run(case)(attached.model), plain, what=what, like="the plain base's")


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
    before = snapshot_of(model)
    tried = "attach with an initialise that raises at the last layer"
    with failing_at(variant, len(layers)), assert_refuses(ll.ConfigError, "on purpose", claim=tried):
        attach(case, model)
    assert_as_before(model, before, claim=f"after {tried}")


@claim(st.just, stage="attach", subject="lora_lite")
def test_a_failure_while_hanging_leaves_the_model_as_before(variant: str) -> None:
    """The third layer takes no hook: the first two lose theirs, and no flag changes."""
    model = Stack()
    model.norm.requires_grad_(False)
    before = snapshot_of(model)
    tried = "attach where the third layer takes no hook"
    with blocked(model.third), assert_refuses(*NO_HOOK, claim=tried):
        on(model, variant)
    assert_as_before(model, before, claim=f"after {tried}")


@claim(adapted_models, stage="attach", needs=("transformers",), share=0.3, subject="lora_lite")
def test_the_handle_lists_what_is_trainable(case: AdaptedModel) -> None:
    """Targets, and under their full names exactly the parameters that require a gradient, each its own
    tensor.
    """
    model = attach(case).model
    (adapter,) = ll.adapters_of(model)
    assert_trains(model, adapter)
    tensors = subject.tensors(model)
    found = f"targets of the handle are {adapter.targets}, wanted the adapted layers {tuple(tensors)}"
    assert_holds(adapter.targets == tuple(tensors), claim=found)
    named, buffers = dict(adapter.named_parameters()), dict(adapter.named_buffers())
    held = {f"{layer}.{name}": t for layer, own in tensors.items() for name, t in own.items()}
    trainable = {name for name, tensor in held.items() if isinstance(tensor, nn.Parameter)}
    found = f"named_parameters() of the handle lists {sorted(named)}, wanted {sorted(trainable)}"
    assert_holds(set(named) == trainable, claim=found)
    frozen = set(held) - trainable
    found = f"named_buffers() of the handle lists {sorted(buffers)}, wanted {sorted(frozen)}"
    assert_holds(set(buffers) == frozen, claim=found)
    ids = [id(p) for p in adapter.parameters()]
    assert_holds(len(ids) == len(set(ids)), claim="parameters() of the handle lists a parameter twice")
    same = ids == [id(p) for p in named.values()]
    assert_holds(same, claim="parameters() of the handle are not those of named_parameters(), in that order")
    found = f"hooks hang on the layers {hooked(model)}, wanted one on each of {sorted(tensors)}"
    assert_holds(hooked(model) == sorted(tensors), claim=found)
    for name, layer in adapter.layers().items():
        mode = model.get_submodule(name).training
        found = f"layer {name} has training={mode} and its adapter training={layer.training}"
        assert_holds(layer.training == mode, claim=found)


@claim(st.just, stage="attach", subject="lora_lite")
def test_a_cast_of_the_model_reaches_every_tensor(variant: str) -> None:
    """Frozen ones too, and the state dict has them all."""
    adapter = on(model := Stack(), variant)
    model.double()
    names = {
        target: tuple(layer.specs(layer.shape, layer.config)) for target, layer in adapter.layers().items()
    }
    dtypes = {
        f"{target}.{name}": getattr(adapter.layers()[target], name).dtype
        for target, own in names.items()
        for name in own
    }
    left = {name: dtype for name, dtype in dtypes.items() if dtype != torch.float64}
    assert_holds(not left, claim=f"after model.double() these are not torch.float64: {left}")
    declared = {f"{target}.lora_lite.{name}" for target, own in names.items() for name in own}
    missing = sorted(declared - set(model.state_dict()))
    assert_holds(not missing, claim=f"{missing} are not in the state dict")
    assert_finite(model(x(3).double()), what="the output of a model that was cast")


@claim(st.just, stage="refusal", subject="lora_lite")
def test_a_base_that_is_not_finite_is_refused_by_the_layer(variant: str) -> None:
    """Its weight or its bias; a layer that is not adapted is nobody's business."""
    for name in ("weight", "bias"):
        model = Stack()
        with torch.no_grad():
            model.second.get_parameter(name)[..., 2:] = torch.tensor([torch.nan, -torch.inf])
        count = 8 if name == "weight" else 2
        match, where = f"^second: the base {name} holds {count} NaN or Inf", f"a base with NaN in a {name}"
        with assert_refuses(ll.BaseWeightError, match, claim=f"attach to {where}"):
            ll.attach(model, simple_config(variant, exclude_names="third"))
        good = Stack()
        on(good, variant)
        with saved(good) as path, assert_refuses(ll.BaseWeightError, match, claim=f"load onto {where}"):
            ll.load(model, path, check_base=False)
        if not ll.VARIANTS[variant].needs_calibration:
            on(model, variant, target_names=("first", "third"))


@claim(stage="attach", subject="lora_lite")
def test_finite_weights_are_taken_however_large() -> None:
    """Their sum overflows, they do not."""
    model = nn.Sequential(nn.Linear(4, 4))
    with torch.no_grad():
        model[0].weight.fill_(3e38)  # type: ignore[operator]  # a tensor
    on(model, "lora")


@claim(stage="attach", subject="lora_lite")
def test_an_adapter_is_built_where_its_layer_is() -> None:
    """And not where torch makes tensors by default; a linear-like layer may keep its weight in a buffer."""
    for layer in (nn.Linear(4, 4), Coded("integer codes")):
        with torch.device("meta"):
            adapter = ll.attach(nn.Sequential(layer), ll.LoRAConfig(r=1))
        devices = {name: parameter.device.type for name, parameter in adapter.named_parameters()}
        wanted = dict.fromkeys(devices, device().type)
        found = f"the adapter's parameters are on {devices}, their layers on {wanted}"
        assert_holds(devices == wanted, claim=found)


@claim(stage="attach", subject="lora_lite")
def test_names_that_look_like_an_adapters_are_the_bases() -> None:
    """A module called lora_mlp and parameters called lora_…: frozen, given back, never listed as the
    adapter's.
    """
    model: Any = Stack()
    model.lora_mlp = nn.Linear(4, 4)
    model.lora_scale = model.third.lora_A = nn.Parameter(torch.ones(4))
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapter = moved(on(model, "lora"))
    listed = {name for name, _ in adapter.named_parameters()}
    own = {f"{target}.{name}" for target in ("first", "second", "third", "lora_mlp") for name in ("A", "B")}
    assert_holds(listed == own, claim=f"the handle lists {sorted(listed)}, wanted {sorted(own)}")
    assert_trains(model, adapter)
    ll.detach(model)
    what = "a base with names like an adapter's, after detach,"
    assert_all_identical(dict(model.state_dict()), base, what=what, like="as before")
