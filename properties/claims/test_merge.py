"""merge folds every variant into a plain layer that computes the same."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.agreement import assert_merged, merge_or_see_refused
from properties.judging.assertions import (
    assert_all_identical,
    assert_finite,
    assert_holds,
    assert_identical,
    assert_refuses,
    assert_runs,
)
from properties.judging.claim import claim
from properties.judging.expected import expected_output
from properties.judging.fixed_models import Stack, moved, on
from properties.judging.snapshot import hooked
from properties.subjects import subject
from properties.subjects.attaching import AnyCase, attach
from properties.subjects.layer_runs import run_layers
from strategies import AdaptedLayer, AdaptedModel, Qwen3Recipe, trained_layers, trained_models


def check_merge(case: AnyCase) -> None:
    made = attach(case)
    layers = run_layers(made)
    wanted = {layer.name: expected_output(layer) for layer in layers}
    if not merge_or_see_refused(made.model):
        return
    left = list(subject.tensors(made.model))
    assert_holds(not left, claim=f"merge left adapters on the layers {left}")
    for layer in layers:
        assert_merged(made.model.get_submodule(layer.name), layer, wanted[layer.name])


@claim(trained_layers, stage="merge", capability="merge")
def test_merged_layer_agrees_with_the_oracle(case: AdaptedLayer) -> None:
    """The merged weight and bias give the oracle's output within the rounding of that weight."""
    check_merge(case)


@claim(trained_models, stage="merge", share=0.3, needs=("transformers",), capability="merge")
def test_merged_model_agrees_with_the_oracle(case: AdaptedModel) -> None:
    """The same in every layer of a model."""
    check_merge(case)


@claim(trained_layers, stage="merge", share=0.5)
def test_merge_leaves_a_plain_layer(case: AdaptedLayer) -> None:
    """Same module and parameters, same dtypes and shapes, no hooks, and the input is used once."""
    made = attach(case)
    parameters = {name: p for name, p in made.model.named_parameters() if name in made.base}
    if not merge_or_see_refused(made.model):
        return
    now, state = dict(made.model.named_parameters()), made.model.state_dict()
    others = [name for name, parameter in parameters.items() if now.get(name) is not parameter]
    found = f"merge put others in the place of the parameters {others}, wanted new numbers in the same"
    assert_holds(not others, claim=found)
    found = f"after merge the state dict has {sorted(state)}, wanted {sorted(made.base)}"
    assert_holds(set(state) == set(made.base), claim=found)
    for name, tensor in state.items():
        found = f"merge made {name} {tensor.dtype}, it was {made.base[name].dtype}"
        assert_holds(tensor.dtype == made.base[name].dtype, claim=found)
    assert_holds(not hooked(made.model), claim=f"merge left hooks on the layers {hooked(made.model)}")
    merged: Any = made.model[0]  # type: ignore[index]  # an nn.Sequential of one layer
    x = case.x()
    plain = type(merged).forward(merged, x)
    what, like = "the output of a merged layer", "x Wᵀ + b of its own W and b"
    assert_identical(made.model(x), plain, what=what, like=like)


@claim(stage="merge", subject="lora_lite")
def test_merge_folds_every_adapter() -> None:
    """Of two on one model, each into its own layer."""
    model = Stack()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for variant, target in (("lora", "first"), ("hra", "third")):
        moved(on(model, variant, target_names=target))
    ll.merge(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    wanted = {"first.weight", "third.weight"}
    found = f"merge of lora on first and hra on third changed {sorted(changed)}, wanted {sorted(wanted)}"
    assert_holds(changed == wanted, claim=found)


@claim(stage="merge", subject="lora_lite")
def test_after_merge_the_base_trains_as_before() -> None:
    """What the user had frozen stays frozen."""
    model = Stack()
    model.norm.requires_grad_(False)
    on(model, "lora", target_names="first")
    ll.merge(model)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    wanted = ["norm.weight", "norm.bias"]
    assert_holds(frozen == wanted, claim=f"after merge {frozen} are frozen, wanted {wanted}")


@claim(stage="merge", needs=("transformers",), subject="lora_lite")
def test_merge_into_tied_weights_is_refused() -> None:
    """The embedding would change with the head. The model stays as it was, adapter and all."""
    model = Qwen3Recipe(tied=True).build()
    ll.attach(model, ll.LoRAConfig(r=2, target_names=("lm_head",)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    match = "lm_head: merge: its weight or bias is shared with model.embed_tokens"
    with assert_refuses(ll.BaseWeightError, match, claim="merge into a head that is tied to the embedding"):
        ll.merge(model)
    what = "the state dict after a refused merge"
    assert_all_identical(dict(model.state_dict()), before, what=what, like="as before")


class Doubling(nn.Linear):
    """A linear layer whose forward does more."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def with_hook() -> nn.Linear:
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda module, args, y: 2 * y)
    return layer


def with_forward() -> nn.Linear:
    """As engines put one on a layer itself."""
    layer = nn.Linear(4, 4)
    layer.forward = lambda input: 2 * input  # type: ignore[method-assign]
    return layer


@claim(stage="merge", subject="lora_lite")
def test_merge_into_more_than_a_linear_layer_is_refused() -> None:
    """What else the layer does would be folded in and then happen again."""
    for what, layer in {
        "a subclass with a forward of its own": Doubling(4, 4),
        "a layer whose forward was replaced": with_forward(),
        "a layer with another hook": with_hook(),
        "a layer under weight_norm": nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
    }.items():
        ll.attach(model := nn.Sequential(layer), ll.LoRAConfig(r=2))
        match = "0: merge: .* computes more than"
        with assert_refuses(ll.BaseWeightError, match, claim=f"merge into {what}"):
            ll.merge(model)
        found = f"a refused merge into {what} took the adapter off"
        assert_holds(bool(subject.tensors(model)), claim=found)


@claim(stage="merge", subject="lora_lite")
def test_merge_into_a_tied_bias_or_storage_is_refused() -> None:
    """Two layers with one bias, and two parameters over the same numbers."""
    for tie in ("bias", "storage"):
        model: Any = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        if tie == "bias":
            model[1].bias = model[0].bias
        else:
            model[1].weight = nn.Parameter(model[0].weight.data)
        ll.attach(model, ll.IA3Config())
        match = "0: merge: its weight or bias is shared with 1"
        with assert_refuses(ll.BaseWeightError, match, claim=f"merge into two layers with one {tie}"):
            ll.merge(model)


@claim(stage="merge", subject="lora_lite")
def test_merge_of_what_the_base_cannot_hold_is_refused() -> None:
    """A constant without a bias to put it in; numbers beyond the base's dtype."""
    model: Any = nn.Sequential(nn.Linear(4, 4))
    ll.attach(model, ll.IA3Config())
    for parameter in ll.adapters_of(model)[0].parameters():
        parameter.data.fill_(torch.nan)
    match = "0: merge: the merged weight is not finite"
    with assert_refuses(ll.BaseWeightError, match, claim="merge of an adapter that holds NaN"):
        ll.merge(model)
    assert_finite(model[0].weight, what="the base's weight after a refused merge")
    model = nn.Sequential(nn.Linear(4, 4, bias=False))
    ll.attach(model, ll.LoRAConfig(r=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ll.LoRA, "adapt_output", lambda self, x, y, layer: y + 1)
        match = "0: merge: the adapter adds a constant"
        tried = "merge of an adapter that adds a constant, into a layer without a bias"
        with assert_refuses(ll.BaseWeightError, match, claim=tried):
            ll.merge(model)


@claim(stage="merge", subject="lora_lite")
def test_a_merged_weight_that_overflows_is_refused() -> None:
    """The weight alone, and the bias alone: a look at one of them misses the other."""
    overflowing = {
        "weight": (ll.LoRAConfig(r=2, dtype=torch.float64), 0.0, 1e25),
        "bias": (ll.IA3Config(dtype=torch.float64), 1e30, 1e30),
    }
    for part, (config, bias, factor) in overflowing.items():
        model: Any = nn.Sequential(nn.Linear(3, 3))
        model[0].weight.data.zero_()
        model[0].bias.data.fill_(bias)
        ll.attach(model, config)
        for parameter in ll.adapters_of(model)[0].parameters():
            parameter.data.fill_(factor)
        before = {name: tensor.detach().clone() for name, tensor in model[0].named_parameters(recurse=False)}
        with assert_refuses(
            ll.BaseWeightError,
            "0: merge: the merged weight is not finite in torch.float32",
            claim=f"merge of a {part} that overflows",
        ):
            ll.merge(model)
        for name, tensor in before.items():
            assert_identical(
                getattr(model[0], name), tensor, what=f"{name} after a refused merge, its {part} overflows"
            )


@claim(stage="merge", subject="lora_lite")
def test_merge_beside_any_hook_of_the_users_is_refused() -> None:
    """Every kind of hook beside every kind of adapter: what it does would be folded in, and happen again."""
    hooks = ("register_forward_pre_hook", "register_forward_hook")
    for config in (ll.LoRAConfig(r=2), ll.HRAConfig(r=2), ll.IA3Config(), ll.IA3FFConfig()):
        for hook in hooks:
            for first in (True, False):
                model: Any = nn.Sequential(nn.Linear(4, 4))
                if first:
                    getattr(model[0], hook)(lambda layer, *args: None)
                ll.attach(model, config)
                if not first:
                    getattr(model[0], hook)(lambda layer, *args: None)
                with assert_refuses(
                    ll.BaseWeightError,
                    "0: merge: Linear computes more",
                    claim=f"merge of {config.variant} beside {hook}",
                ):
                    ll.merge(model)
    ll.attach(model := nn.Sequential(nn.Linear(4, 4)), ll.LoRAConfig(r=2))
    of_all = nn.modules.module.register_module_forward_hook(lambda layer, args, y: None)
    match, tried = "0: merge: Linear computes more", "merge beside a hook of all modules"
    try:
        with assert_refuses(ll.BaseWeightError, match, claim=tried):
            ll.merge(model)
    finally:
        of_all.remove()


@claim(stage="merge", subject="lora_lite")
def test_merge_into_a_weight_that_is_expanded_is_refused() -> None:
    """One number in several places holds no matrix; of one row and one column it may."""
    model: Any = nn.Sequential(nn.Linear(4, 4))
    model[0].weight = nn.Parameter(torch.ones(1, 4).expand(4, 4))
    ll.attach(model, ll.LoRAConfig(r=2))
    with assert_refuses(ll.BaseWeightError, "0: merge: its weight or bias is expanded", claim="such a merge"):
        ll.merge(model)
    ll.attach(narrow := nn.Sequential(nn.Linear(1, 1)), ll.LoRAConfig(r=1))
    with assert_runs("merge into a layer of one number"):
        ll.merge(narrow)
