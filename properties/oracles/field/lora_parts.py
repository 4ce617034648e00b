"""LoRA, arXiv:2106.09685 section 4.1, on some of n blocks of rows of W, as query, key and value.

A (m r, d_in) has the A of each of the m adapted blocks below each other, and B (m d_out / n, r) the B.
options: r, alpha, parts: which blocks are adapted.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_zero, kaiming, scale

SOURCE = "paper"
TRAINS = ("A", "B")
LAWS = {"linear_in": ("A", "B"), "inputs": {"A": 1}, "apart_from_the_base": True}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """The other blocks are left alone."""
    parts, r = options["parts"], options["r"]
    rows = len(W) // len(parts)
    update, zero = [], W.new_zeros(rows, W.shape[1])
    for i, adapted_ in enumerate(parts):
        m = sum(parts[:i])
        A, B = p["A"][m * r : (m + 1) * r], p["B"][m * rows : (m + 1) * rows]
        update.append(B @ A if adapted_ else zero)
    return W + scale(options) * torch.cat(update), b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """A is kaiming-uniform, B is zero."""
    m, n, r, d_in = sum(options["parts"]), len(options["parts"]), options["r"], W.shape[1]
    return [*kaiming("A", p["A"], (m * r, d_in), d_in), is_zero("B", p["B"], (m * len(W) // n, r))]
