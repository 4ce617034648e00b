"""merge: fold adapters into the base."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lora_lite.adapter import attached, detach, unwrapped
from lora_lite.errors import BaseWeightError, naming
from lora_lite.linear import has_plain_weight


def merge(model: nn.Module) -> None:
    """Fold every adapter into its layer's weight and bias and take it off: the same function as a plain
    model.

    Every adapted layer is affine in x, so that its weight (d_out, d_in) and bias can be read off a basis;
    this is done in float64 and rounded once to the base dtype. All or nothing: on any error the model is as
    before.

    Raises NotAttachedError, TargetError for what is no model or carries an adapter that was attached through
    another module, and BaseWeightError where a base cannot hold the result: quantised, tied or parametrised
    weights, a forward or a hook of its own, an adapter that adds a constant to a layer without bias, a result
    that overflows.
    """
    model = unwrapped(model)
    # All results before the first is written: where one layer refuses, no other has changed.
    merged = {}
    for adapter in attached(model):
        for name in adapter.targets:
            with naming(name):
                merged[name] = _merged(model, model.get_submodule(name))
    with torch.no_grad():
        for name, (weight, bias) in merged.items():
            layer: Any = model.get_submodule(name)
            # In place: whoever holds the parameter holds the merged one.
            layer.weight.copy_(weight)
            if bias is not None:
                layer.bias.copy_(bias)
    detach(model)


def _merged(model: nn.Module, layer: Any) -> tuple[Tensor, Tensor | None]:
    """The weight and bias of the adapted layer, in the base dtype."""
    _refuse_unmergeable(model, layer)
    # A copy, with adapter and hook: nothing of the model is widened. In eval mode: a user's variant may have
    # dropout.
    twin = copy.deepcopy(layer).double().eval()
    basis = torch.eye(layer.in_features, dtype=torch.float64, device=layer.weight.device)
    with torch.no_grad():
        # f(0) is the bias; f of the i-th unit vector less the bias is the i-th column of the weight.
        bias = twin(torch.zeros_like(basis[:1]))
        weight = (twin(basis) - bias).mT
    if layer.bias is None and bias.any():
        raise BaseWeightError(
            "merge: the adapter adds a constant and the layer has no bias to hold it. Give the layer a bias."
        )
    weight, bias = weight.to(layer.weight.dtype), bias.to(layer.weight.dtype)
    if not (weight.isfinite().all() and bias.isfinite().all()):
        found = f"the merged weight is not finite in {weight.dtype}"
        raise BaseWeightError(
            f"merge: {found}: it overflows, or the adapter holds NaN or Inf. Keep the adapter attached."
        )
    return weight, None if layer.bias is None else bias[0]


def _refuse_unmergeable(model: nn.Module, layer: Any) -> None:
    """A layer can be merged into if it computes x Wᵀ + b and nothing else, with tensors of its own."""
    if not has_plain_weight(layer) or not isinstance(layer, nn.Linear):
        raise BaseWeightError(
            f"merge: {type(layer).__name__} holds no plain floating-point weight to fold into. "
            "Keep the adapter attached, or load it onto an unquantised base."
        )
    # One of them is the adapter's own.
    hooks = len(layer._forward_hooks) + len(layer._forward_pre_hooks)
    if type(layer).forward is not nn.Linear.forward or "weight" not in layer._parameters or hooks > 1:
        raise BaseWeightError(
            f"merge: {type(layer).__name__} computes more than x Wᵀ + b (a forward of its own, a parametrised"
            " weight or another hook), which would count twice. Take that away first, or keep the adapter"
            " attached."
        )
    # By storage: what is tied may be a view, under any name and in any module.
    own = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters(recurse=False)}
    sharing = [
        name
        for name, module in model.named_modules()
        if module is not layer
        and any(
            parameter.untyped_storage().data_ptr() in own for parameter in module.parameters(recurse=False)
        )
    ]
    if sharing:
        raise BaseWeightError(
            f"merge: its weight or bias is shared with {', '.join(sharing[:5])} (tied), which would change"
            " with it. Untie them first, or keep the adapter attached."
        )
