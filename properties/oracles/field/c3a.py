"""C3A, arXiv:2407.19342 equations 4 and 6: W' = W + blocks of circulant matrices C(w_ij), divided by d_in.

w (d_out / b, d_in / b, b) is the first row of each block, and every next row is shifted to the right by one.
The division is peft's. options: init, one of "zero", "normal", "xavier", "kaiming".
"""

import math

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_zero, normal, uniform

SOURCE = "paper"
TRAINS = ("w",)
LAWS = {"linear_in": ("w",), "apart_from_the_base": True}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """C[k, j] = w[(j - k) mod b]."""
    w = p["w"]
    j = torch.arange(w.shape[-1])
    C = w[:, :, (j[None, :] - j[:, None]) % len(j)]
    return W + C.transpose(1, 2).reshape(W.shape) / W.shape[1], b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """By the widths of the whole layer."""
    w, shape, (d_out, d_in) = p["w"], tuple(p["w"].shape), W.shape
    if options["init"] == "zero":
        return [is_zero("w", w, shape)]
    if options["init"] == "normal":
        return normal("w", w, shape, 1.0)
    bound = math.sqrt(6 / (d_in + d_out)) if options["init"] == "xavier" else 1 / math.sqrt(d_in)
    return uniform("w", w, shape, bound)
