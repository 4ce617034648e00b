"""merge folds every variant into a plain layer that computes the same."""

from typing import Any

import torch

from properties.assertions import assert_close, assert_holds, assert_identical
from properties.implementation import implementation
from properties.observe import expected, observe, subject
from properties.registry import every_variant
from properties.tolerance import Bounded, perturbed, scatter
from strategies import AdaptedLayer, trained_layers


@every_variant(trained_layers)
def test_merged_layer_agrees_with_the_oracle(case: AdaptedLayer) -> None:
    """The merged weight and bias, in the base dtype, give the oracle's output within the rounding of that weight."""
    made = subject(case)
    (layer,) = observe(made)
    wanted = expected(layer).y
    implementation.merge(made.model)
    assert_holds(not implementation.tensors(made.model), claim="merge left an adapter on the model")
    merged: Any = made.model[0]  # type: ignore[index]  # an nn.Sequential of one layer
    x = layer.x.detach().reshape(-1, case.linear.d_in)
    copies = perturbed("merged", merged.weight, case.base_dtype)
    bias = 0 if merged.bias is None else perturbed("merged bias", merged.bias, case.base_dtype)[:, None]
    rounded = scatter(x.double() @ copies.mT + bias, case.base_dtype)
    got = made.model(case.x()).reshape(wanted.value.shape)
    assert_close(got, Bounded(wanted.value, wanted.error + rounded.error), claim="the merged layer's output is the oracle's")


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
