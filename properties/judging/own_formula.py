"""What stands in for an oracle where a variant has none: its own code, in float64.

The error model evaluates it on copies of the case that are off by one rounding, as it does an oracle. It
tells a result that is rounded, cast or merged wrongly, and nothing of the formula.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lora_lite as ll
from properties.oracles import ORACLES, Oracle
from properties.oracles.laws import Law, Options, Tensors
from strategies.layers import blank_linear


def formula_of(variant: str) -> Oracle:
    """Its oracle, or what stands in for one."""
    return ORACLES.get(variant) or Oracle(partial(own_forward, variant), no_laws)


def its_formula(variant: str) -> str:
    """As a failure is to say it, after "is not"."""
    return "the oracle's" if variant in ORACLES else "that of its own code in float64"


def own_forward(
    variant: str,
    x: Tensor,
    W: Tensor,
    b: Tensor | None,
    e: Tensor,
    p: Tensors,
    p0: Tensors,
    options: Options,
) -> Tensor:
    """As an oracle's forward, one layer for each of the leading dimensions."""
    if x.ndim > 2:
        each = (
            own_forward(
                variant,
                x[i],
                W[i],
                None if b is None else b[i],
                e[i],
                {name: tensor[i] for name, tensor in p.items()},
                {},
                options,
            )
            for i in range(len(x))
        )
        return torch.stack(list(each))
    layer = _holding(blank_linear(W.shape[1], W.shape[0]), {"weight": W, "bias": b})
    adapter = _adapter(variant, ll.LinearShape(W.shape[1], W.shape[0], b is not None), p, options)
    if type(adapter).adapt_input is not ll.Variant.adapt_input:
        return F.linear(adapter.adapt_input(x), W, b) + e
    return adapter.adapt_output(x, F.linear(x, W, b) + e, layer)


def no_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options, inputs: Tensor | None) -> list[Law]:
    """Nothing is known of its init."""
    return []


def _adapter(variant: str, shape: ll.LinearShape, tensors: Tensors, options: Options) -> ll.Variant:
    kind = ll.VARIANTS[variant]
    config = kind.config_class(**{**options, "dtype": torch.float64})
    made = kind(shape, config, tensors={name: tensor.detach() for name, tensor in tensors.items()})
    _holding(made, tensors)
    return made


def _holding(module: Any, tensors: Any) -> Any:
    """The module with these tensors as they are, each in the graph that it belongs to."""
    for name, tensor in tensors.items():
        module._parameters.pop(name, None)
        module._buffers.pop(name, None)
        module.__dict__[name] = tensor
    return module
