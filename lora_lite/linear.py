"""What counts as a linear layer, and reading the weight of one: plain, or through its quantiser's own API."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm

from lora_lite.atomic import Step, at_once, attribute_as_it_is
from lora_lite.errors import BaseWeightError
from lora_lite.statistics import STILL, moves


@dataclass(frozen=True)
class LinearShape:
    """Width of a linear layer's input and output, and whether it has a bias."""

    d_in: int
    d_out: int
    bias: bool = False


def is_linear(module: nn.Module) -> bool:
    """nn.Linear and whatever looks like one: a forward from `in_features` to `out_features`, or is_turned."""
    widths = ("in_features", "out_features")
    return all(isinstance(getattr(module, width, None), int) for width in widths) or is_turned(module)


def is_turned(module: nn.Module) -> bool:
    """Whether it computes x W + b from a weight (d_in, d_out), as transformers' Conv1D does in GPT-2.

    Told by `nf`, its d_out, and by `nx`, its d_in, or where it has none by a weight with `nf` columns.
    """
    if hasattr(module, "in_features") or not isinstance(nf := getattr(module, "nf", None), int):
        return False
    weight = module._parameters.get("weight")
    columns = weight is not None and weight.dim() == 2 and weight.shape[1] == nf
    return columns or isinstance(getattr(module, "nx", None), int)


def turned(layer: nn.Module, weight: Tensor) -> Tensor:
    """A weight as the layer stores it, as (d_out, d_in), and the other way round."""
    return weight.mT if is_turned(layer) else weight


def linear_shape(layer: nn.Module) -> LinearShape:
    """The shape of a module for which is_linear holds."""
    d_out, d_in = linear_sizes(layer)
    return LinearShape(d_in, d_out, isinstance(getattr(layer, "bias", None), Tensor))


def weight_of(layer: nn.Module) -> Any:
    """layer.weight, None where there is none. To read it writes nothing.

    A parametrised weight is computed when it is read, and torch's spectral_norm then writes its buffers, in
    training mode.
    """
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, SpectralNorm) and hook.name == "weight":
            # The attribute is something else until the first forward.
            return hook.compute_weight(layer, do_power_iteration=False)
    held = layer._modules.get("parametrizations")
    # None once an adapter is on, which keeps them still at every call.
    moving = [m for m in held.modules() if m.training and moves(m) and STILL not in vars(m)] if held else []
    if not moving:
        return getattr(layer, "weight", None)
    back = [attribute_as_it_is(module, "training") for module in moving]
    into_eval: list[Step] = [(setattr, module, "training", False) for module in moving]
    try:
        at_once(into_eval)
        weight = layer.weight
        at_once(back)
    except BaseException:
        at_once(back)
        raise
    return weight


def has_plain_weight(layer: nn.Module) -> bool:
    """Whether `layer.weight` holds the weight itself."""
    return plain_weight(layer) is not None


def plain_weight(layer: nn.Module) -> Tensor | None:
    """`layer.weight` where it holds the weight itself: an ordinary floating-point tensor, (d_out, d_in), or
    (d_in, d_out) where it is_turned; else None.

    Decided by the weight and not by the layer's type: bitsandbytes layers are subclasses of nn.Linear, and
    torchao keeps `type(layer) is nn.Linear` with a tensor subclass that claims a floating dtype.
    """
    weight = weight_of(layer)
    plain = (
        type(weight) in (Tensor, nn.Parameter)
        and _holds_numbers(weight)
        and weight.shape == stored_sizes(layer)
    )
    return weight if plain else None


def _holds_numbers(weight: Tensor) -> bool:
    """Of two bytes or more: numbers of one byte are codes, whose scale is kept elsewhere."""
    return weight.dtype.is_floating_point and weight.dtype.itemsize > 1


def read_weight(layer: nn.Module) -> Tensor:
    """The base weight (d_out, d_in) in a floating dtype, detached; dequantised where it is stored quantised.

    Raises BaseWeightError where the weight cannot be had as floating-point numbers.
    """
    if (plain := plain_weight(layer)) is not None:
        return turned(layer, plain.detach())
    weight = weight_of(layer)
    if _is_bitsandbytes(layer):
        weight = _read_bitsandbytes(layer)
    elif _knows_its_scale(weight):
        weight = weight.detach().dequantize()
    # Asked of what came out too: codes, or another layout, must not pass for W.
    if isinstance(weight, Tensor) and _holds_numbers(weight) and weight.shape == stored_sizes(layer):
        return turned(layer, weight.detach())
    found = f"{type(weight).__name__} {getattr(weight, 'dtype', '')} {tuple(getattr(weight, 'shape', ()))}"
    raise BaseWeightError(
        f"{type(layer).__name__}: the weight is a {found}, wanted floating-point numbers of shape"
        f" {stored_sizes(layer)}. Use a variant that does not read the base weight (lora, ia3, ia3_ff, hra,"
        " eva), or an unquantised base."
    )


def read_bias(layer: nn.Module) -> Tensor | None:
    """What the layer adds to x Wᵀ, None for nothing.

    Raises BaseWeightError where `bias` is neither, as a mere flag is.
    """
    bias: Any = getattr(layer, "bias", None)
    if bias is None or isinstance(bias, Tensor):
        return bias
    raise BaseWeightError(
        f"{type(layer).__name__}: the bias is {bias!r}, wanted a tensor or None. Leave the layer out, or use"
        " another variant."
    )


def linear_sizes(layer: nn.Module) -> tuple[int, int]:
    """(d_out, d_in), the shape of the weight as read_weight gives it."""
    told: Any = layer
    if is_turned(layer):
        return told.nf, told.nx if isinstance(getattr(told, "nx", None), int) else len(told.weight)
    return told.out_features, told.in_features


def stored_sizes(layer: nn.Module) -> tuple[int, int]:
    """The shape that the layer's own `weight` should have."""
    d_out, d_in = linear_sizes(layer)
    return (d_in, d_out) if is_turned(layer) else (d_out, d_in)


def _knows_its_scale(weight: Any) -> bool:
    """Whether dequantize is the weight's own; torch's would take codes for numbers."""
    return getattr(type(weight), "dequantize", Tensor.dequantize) is not Tensor.dequantize


def _is_bitsandbytes(layer: nn.Module) -> bool:
    return any(kind.__module__.startswith("bitsandbytes") for kind in type(layer).__mro__)


def _read_bitsandbytes(layer: nn.Module) -> object:
    # bitsandbytes is no dependency: a layer of its own can only exist where it is installed.
    from bitsandbytes import functional

    weight: Any = layer.weight
    if (state := getattr(weight, "quant_state", None)) is not None:
        return functional.dequantize_4bit(weight.data, state)
    # Without codes it is not quantised yet: bitsandbytes does that on the way to the device.
    codes, scales = _eight_bit(layer, "CB"), _eight_bit(layer, "SCB")
    return weight if codes is None or scales is None else functional.int8_vectorwise_dequant(codes, scales)


def _eight_bit(layer: nn.Module, name: str) -> Any:
    """CB or SCB of a Linear8bitLt: on its weight until the first forward, on its state from then on."""
    own = getattr(getattr(layer, "weight", None), name, None)
    return own if own is not None else getattr(getattr(layer, "state", None), name, None)


def quantisation_scales(layer: nn.Module) -> tuple[Tensor, ...]:
    """What a quantised weight means besides its codes, where no parameter or buffer keeps it."""
    if not _is_bitsandbytes(layer):
        return ()
    if (state := getattr(getattr(layer, "weight", None), "quant_state", None)) is not None:
        values = state.as_dict()
        # The offset of nested scales is a Python number there, as the names of its formats are strings.
        other = repr({name: value for name, value in values.items() if not isinstance(value, Tensor)})
        tensors = (value for value in values.values() if isinstance(value, Tensor))
        return *tensors, torch.frombuffer(bytearray(other.encode()), dtype=torch.uint8)
    scales = _eight_bit(layer, "SCB")
    return () if scales is None else (scales,)


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The dtype for sums of squares, norms and small solves: never half precision."""
    return torch.promote_types(dtype, torch.float32)


def all_finite(tensor: Tensor) -> bool:
    """Whether there is no NaN and no Inf; one without data has none."""
    if tensor.is_meta:
        return True
    # A sum without one has no term with one, and takes a single pass; only a sum that is not finite leaves
    # the question open.
    total = tensor.detach().sum(dtype=at_least_float32(tensor.dtype)).item()
    return math.isfinite(total) or bool(torch.isfinite(tensor).all())
