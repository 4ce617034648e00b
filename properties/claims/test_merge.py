"""merge folds every variant into a plain layer that computes the same."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import (
    assert_all_identical,
    assert_close,
    assert_holds,
    assert_identical,
    assert_refuses,
)
from properties.judging.claim import claim
from properties.judging.expected import expected_output
from properties.judging.fixed_models import Stack, moved, on
from properties.judging.tolerance import Bounded, finite, perturbed, scatter
from properties.subjects import subject
from properties.subjects.attaching import AnyCase, attach
from properties.subjects.observation import observe
from strategies import AdaptedLayer, AdaptedModel, Qwen3Recipe, trained_layers, trained_models


def check_merge(case: AnyCase) -> None:
    made = attach(case)
    layers = observe(made)
    wanted = {layer.name: expected_output(layer) for layer in layers}
    subject.merge(made.model)
    assert_holds(not subject.tensors(made.model), claim="merge left an adapter on the model")
    for layer in layers:
        merged: Any = made.model.get_submodule(layer.name)
        bound, dtype = wanted[layer.name], layer.x.dtype
        x = layer.x.detach().reshape(-1, merged.in_features)
        # The merged weight is rounded once more, to the base dtype.
        copies = perturbed("merged", merged.weight, dtype)
        bias = 0 if merged.bias is None else perturbed("merged bias", merged.bias, dtype)[:, None]
        rounded = scatter(x.double() @ copies.mT + bias, dtype, overflowed=not finite([x]))
        claim = f"the output of {layer.name}, merged, is the oracle's"
        assert_close(merged(x), Bounded(bound.value, bound.error + rounded.error), what=claim)


@claim(trained_layers, stage="merge", needs=("oracle",), capability="merge")
def test_merged_layer_agrees_with_the_oracle(case: AdaptedLayer) -> None:
    """The merged weight and bias give the oracle's output within the rounding of that weight."""
    check_merge(case)


@claim(trained_models, stage="merge", share=0.3, needs=("oracle",), capability="merge")
def test_merged_model_agrees_with_the_oracle(case: AdaptedModel) -> None:
    """The same in every layer of a model."""
    check_merge(case)


@claim(trained_layers, stage="merge", share=0.5, needs=("oracle",))
def test_merge_leaves_a_plain_layer(case: AdaptedLayer) -> None:
    """Same module and parameters, same dtypes and shapes, no hooks, and the input is used once."""
    made = attach(case)
    parameters = {name: p for name, p in made.model.named_parameters() if name in made.base}
    subject.merge(made.model)
    now = dict(made.model.named_parameters())
    others = [name for name, parameter in parameters.items() if now.get(name) is not parameter]
    assert_holds(
        not others,
        claim=f"merge put others in the place of the parameters {others}, wanted new numbers in the same",
    )
    merged: Any = made.model[0]  # type: ignore[index]  # an nn.Sequential of one layer
    assert_holds(
        set(made.model.state_dict()) == set(made.base), claim="merge changed the names in the state dict"
    )
    for name, tensor in made.model.state_dict().items():
        assert_holds(tensor.dtype == made.base[name].dtype, claim=f"merge changed the dtype of {name}")
    assert_holds(not merged._forward_hooks and not merged._forward_pre_hooks, claim="merge left a hook")
    x = case.x()
    assert_identical(
        made.model(x),
        torch.nn.functional.linear(x, merged.weight, merged.bias),
        what="a merged layer",
        like="plain",
    )


@claim(stage="merge")
def test_merge_folds_every_adapter() -> None:
    """Of two on one model, each into its own layer."""
    model = Stack()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for variant, target in (("lora", "first"), ("hra", "third")):
        moved(on(model, variant, target_names=target))
    ll.merge(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert_holds(
        changed == {"first.weight", "third.weight"},
        claim=f"merging lora on first and hra on third changed {changed}",
    )


@claim(stage="merge")
def test_after_merge_the_base_trains_as_before() -> None:
    """What the user had frozen stays frozen."""
    model = Stack()
    model.norm.requires_grad_(False)
    on(model, "lora", target_names="first")
    ll.merge(model)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert_holds(
        frozen == ["norm.weight", "norm.bias"], claim=f"after merge {frozen} are frozen, wanted norm alone"
    )


@claim(stage="merge")
def test_merge_into_tied_weights_is_refused() -> None:
    """The embedding would change with the head. The model stays as it was, adapter and all."""
    model = Qwen3Recipe(tied=True).build()
    ll.attach(model, ll.LoRAConfig(r=2, target_names=("lm_head",)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with assert_refuses(
        ll.BaseWeightError,
        "lm_head: merge: its weight or bias is shared with model.embed_tokens",
        claim="merge into tied weights",
    ):
        ll.merge(model)
    assert_all_identical(
        dict(model.state_dict()), before, what="the model after a refused merge", like="as before"
    )


class Doubling(nn.Linear):
    """A linear layer whose forward does more."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def hooked() -> nn.Linear:
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda module, args, y: 2 * y)
    return layer


@claim(stage="merge")
def test_merge_into_more_than_a_linear_layer_is_refused() -> None:
    """What else the layer does would be folded in and then happen again."""
    weight_normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    for layer in (Doubling(4, 4), hooked(), weight_normed):
        ll.attach(model := nn.Sequential(layer), ll.LoRAConfig(r=2))
        with assert_refuses(
            ll.BaseWeightError, "0: merge: .* computes more than", claim=f"merge into {type(layer).__name__}"
        ):
            ll.merge(model)
        assert_holds(bool(subject.tensors(model)), claim="a refused merge took the adapter off")


@claim(stage="merge")
def test_merge_into_a_tied_bias_or_storage_is_refused() -> None:
    """Two layers with one bias, and two parameters over the same numbers."""
    for tie in ("bias", "storage"):
        model: Any = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        if tie == "bias":
            model[1].bias = model[0].bias
        else:
            model[1].weight = nn.Parameter(model[0].weight.data)
        ll.attach(model, ll.IA3Config())
        with assert_refuses(
            ll.BaseWeightError, "0: merge: its weight or bias is shared with 1", claim=f"a tied {tie}"
        ):
            ll.merge(model)


@claim(stage="merge")
def test_merge_of_what_the_base_cannot_hold_is_refused() -> None:
    """A constant without a bias to put it in; numbers beyond the base's dtype."""
    model: Any = nn.Sequential(nn.Linear(4, 4))
    ll.attach(model, ll.IA3Config())
    for parameter in ll.adapters_of(model)[0].parameters():
        parameter.data.fill_(torch.nan)
    with assert_refuses(
        ll.BaseWeightError, "0: merge: the merged weight is not finite", claim="a merge to NaN"
    ):
        ll.merge(model)
    assert_holds(bool(model[0].weight.isfinite().all()), claim="a refused merge wrote NaN into the base")
    model = nn.Sequential(nn.Linear(4, 4, bias=False))
    ll.attach(model, ll.LoRAConfig(r=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ll.LoRA, "adapt_output", lambda self, x, y, layer: y + 1)
        with assert_refuses(
            ll.BaseWeightError, "0: merge: the adapter adds a constant", claim="a constant without a bias"
        ):
            ll.merge(model)
