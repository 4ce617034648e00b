"""merge folds every variant into a plain layer that computes the same."""

from typing import Any

import torch

import lora_lite as ll
from properties.assertions import assert_all_identical, assert_close, assert_holds, assert_identical, assert_refuses
from properties.implementation import implementation
from properties.observe import AnyCase, expected, has_oracle, observe, subject
from properties.registry import every_variant, fact
from properties.tolerance import Bounded, perturbed, scatter
from strategies import AdaptedLayer, AdaptedModel, Qwen3Recipe, trained_layers, trained_models


def check_merge(case: AnyCase) -> None:
    made = subject(case)
    layers = observe(made)
    wanted = {layer.name: expected(layer).y for layer in layers}
    implementation.merge(made.model)
    assert_holds(not implementation.tensors(made.model), claim="merge left an adapter on the model")
    for layer in layers:
        merged: Any = made.model.get_submodule(layer.name)
        bound, dtype = wanted[layer.name], layer.x.dtype
        x = layer.x.detach().reshape(-1, merged.in_features)
        # The merged weight is rounded once more, to the base dtype.
        copies = perturbed("merged", merged.weight, dtype)
        bias = 0 if merged.bias is None else perturbed("merged bias", merged.bias, dtype)[:, None]
        rounded = scatter(x.double() @ copies.mT + bias, dtype)
        claim = f"the output of {layer.name}, merged, is the oracle's"
        assert_close(merged(x), Bounded(bound.value, bound.error + rounded.error), claim=claim)


@every_variant(trained_layers, applies=has_oracle)
def test_merged_layer_agrees_with_the_oracle(case: AdaptedLayer) -> None:
    """The merged weight and bias give the oracle's output within the rounding of that weight."""
    check_merge(case)


@every_variant(trained_models, share=0.3, applies=has_oracle)
def test_merged_model_agrees_with_the_oracle(case: AdaptedModel) -> None:
    """The same in every layer of a model."""
    check_merge(case)


@every_variant(trained_layers, share=0.5)
def test_merge_leaves_a_plain_layer(case: AdaptedLayer) -> None:
    """Same module, same dtypes and shapes, no hooks, and the input is used once."""
    made = subject(case)
    implementation.merge(made.model)
    merged: Any = made.model[0]  # type: ignore[index]  # an nn.Sequential of one layer
    assert_holds(set(made.model.state_dict()) == set(made.base), claim="merge changed the names in the state dict")
    for name, tensor in made.model.state_dict().items():
        assert_holds(tensor.dtype == made.base[name].dtype, claim=f"merge changed the dtype of {name}")
    assert_holds(not merged._forward_hooks and not merged._forward_pre_hooks, claim="merge left a hook")
    x = case.x()
    assert_identical(made.model(x), torch.nn.functional.linear(x, merged.weight, merged.bias), claim="a merged layer is plain")


@fact
def test_merge_into_tied_weights_is_refused() -> None:
    """The embedding would change with the head. The model stays as it was, adapter and all."""
    model = Qwen3Recipe(tied=True).build()
    ll.attach(model, ll.LoRAConfig(r=2, target_names=("lm_head",)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with assert_refuses(
        ll.BaseWeightError, "lm_head: merge: the weight is shared with 1 other", claim="merge into tied weights"
    ):
        ll.merge(model)
    assert_all_identical(dict(model.state_dict()), before, claim="a refused merge changed the model")
