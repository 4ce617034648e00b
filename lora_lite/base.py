"""The base under the adapters: its parameters, where they lie, and whether they are numbers."""

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lora_lite.errors import BaseWeightError, TargetError
from lora_lite.handle import unwrapped
from lora_lite.linear import (
    all_finite,
    has_plain_weight,
    is_turned,
    linear_shape,
    plain_weight,
    read_weight,
    stored_sizes,
)
from lora_lite.parallel import refuse_split
from lora_lite.sketches import Look, look
from lora_lite.spec import Variant
from lora_lite.statistics import refuse_observers
from lora_lite.trying import computes_linear

NOTHING = Look(None)


def attachable(model: nn.Module) -> nn.Module:
    """unwrapped(model), where it is not split over processes already and has all its parameters.

    Raises TargetError.
    """
    inner = unwrapped(model)
    # The model as it was given: a DistributedDataParallel around it counts as split.
    refuse_split(model)
    named = list(inner.named_modules())
    for name, module in named:
        for own, parameter in module._parameters.items():
            if is_lazy(parameter):
                raise TargetError(
                    f"{name}.{own}".lstrip(".") + ": found no shape yet, wanted a parameter with one. Run one"
                    " forward of the model first."
                )
    refuse_observers(named)
    return inner


def _held(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a layer and of its parts, by name. named_parameters() takes five times as long."""
    for where, part in layer.named_modules():
        for own, tensor in chain(part._parameters.items(), part._buffers.items()):
            if tensor is not None:
                yield f"{where}.{own}" if where else own, tensor


def device_of(layer: nn.Module) -> torch.device | None:
    """Where the layer's tensors lie."""
    return next((tensor.device for _, tensor in _held(layer)), None)


def refuse_absent(layer: nn.Module) -> None:
    """Raise BaseWeightError where the layer's numbers are elsewhere (not loaded yet, offloaded, or split),
    complex, or none.
    """
    for name, tensor in _held(layer):
        if tensor.is_meta:
            raise BaseWeightError(
                f"its {name} is on the meta device, wanted numbers: it is not loaded yet, or offloaded. Give"
                " the layer its weights first, and an engine the model with its adapters; or leave the layer"
                " out with exclude_names."
            )
    if 0 in stored_sizes(layer):
        raise BaseWeightError(
            f"it is a layer {linear_shape(layer).d_in} → {linear_shape(layer).d_out}, wanted an input and an"
            " output. Leave it out with exclude_names."
        )
    weight = layer._parameters.get("weight")
    if weight is not None and weight.is_complex():
        raise BaseWeightError(
            f"its weight is {weight.dtype}, wanted real numbers: an adapter would leave the imaginary parts"
            " out. Leave the layer out with exclude_names."
        )
    if type(weight) is nn.Parameter and weight.dim() == 1 and weight.is_floating_point():
        raise BaseWeightError(
            f"its weight has the shape {tuple(weight.shape)}, wanted {stored_sizes(layer)}: an engine has"
            " split or flattened it (ZeRO stage 3, FullyShardedDataParallel). Attach or load before it does,"
            " and save inside of its own context that gathers the parameters."
        )


def refuse_another_forward(layer: nn.Module, *, replaced: bool) -> None:
    """Raise TargetError on a layer that is_turned by its attributes, or whose forward an adapter replaces,
    and that computes something else.
    """
    # A weight that is quantised, or computed when it is read, is no number that the forward could be held to.
    # nn.Linear's own forward need not be tried.
    if not (is_turned(layer) or replaced) or type(layer).forward is nn.Linear.forward:
        return
    if "weight" not in layer._parameters or not has_plain_weight(layer) or computes_linear(layer):
        return
    why = "the adapter takes the place of x Wᵀ + b"
    if is_turned(layer):
        why = f"its attribute nf and its weight {stored_sizes(layer)} are those of x W + b"
    raise TargetError(
        f"{type(layer).__name__}: {why}, and it computes something else. Leave it out with exclude_names."
    )


def looked_at(layer: nn.Module, variant: type[Variant]) -> Look:
    """A look at a layer whose numbers are finite, for a variant that starts from them; an empty one for any
    other. Raises as refuse_non_finite_base.
    """
    starts = variant.reads_weight or variant.needs_calibration
    found = look(layer, variant.norms_along) if starts else NOTHING
    refuse_non_finite_base(layer, read=variant.reads_weight, looked_at=found.finite)
    return found


def refuse_non_finite_base(layer: nn.Module, *, read: bool, looked_at: bool = False) -> None:
    """Raise BaseWeightError where the layer's weight or bias holds NaN or Inf.

    read: look into a quantised weight too. looked_at: the weight's numbers are known to be finite.
    """
    for what, tensor in _base_numbers(layer, read, looked_at):
        if not all_finite(tensor):
            count = int((~torch.isfinite(tensor)).sum())
            raise BaseWeightError(
                f"the base {what} holds {count} NaN or Inf, wanted finite numbers. Mend the base first."
            )


def _base_numbers(layer: nn.Module, read: bool, looked_at: bool) -> Iterator[tuple[str, Tensor]]:
    """What the layer computes with, as floating-point numbers."""
    # A quantised weight is dequantised only for a variant that reads it.
    if not looked_at and (weight := read_weight(layer) if read else plain_weight(layer)) is not None:
        yield "weight", weight
    if isinstance(bias := getattr(layer, "bias", None), Tensor) and bias.dtype.is_floating_point:
        yield "bias", bias.detach()
