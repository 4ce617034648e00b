"""MiCA, arXiv:2604.01694: W' = W + s B A, B the r lowest left singular vectors of W, frozen.

options: r, alpha.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_identity, is_zero, scale

SOURCE = "documentation"
TRAINS = ("A",)
LAWS = {
    "linear_in": ("A",),
    "any_order_of": {"A": 0, "B": 1},
    "unchanged_by": {"A": 1, "B": -1},
    "inputs": {"A": 1},
    "outputs": {"B": 0},
    "rank": 1,
    "apart_from_the_base": True,
}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """A alone learns."""
    return W + scale(options) * p["B"] @ p["A"], b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """B^T W has the r smallest singular values, and rows that are orthogonal."""
    r, B = options["r"], p["B"]
    sigma = torch.linalg.svdvals(W)
    gram, size = B.mT @ W @ W.mT @ B, sigma[0] ** 2
    return [
        is_zero("A", p["A"], (r, W.shape[1])),
        is_identity("B^T B = I", B.mT @ B),
        Law("B^T W W^T B = diag of the smallest squares", gram, (sigma[-r:] ** 2).diag(), size),
    ]
