"""AdaMSS, NeurIPS 2025: row clusters of W, each with an update B_i A_i N, N the top right singular vectors.

N (r, d_in), or (r, d_in + 1) of W and the bias beside each other, frozen; A_i (k_i, r), B_i (rows_i, k_i).
rows: the row that each row of the B_i below each other stands for. options: init.

Looked up: peft's documentation of AdaMSS has clusters of an SVD with an update each, and no formula.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, exactly, is_identity, is_zero

SOURCE = "code"
TRAINS = tuple(f"{kind}{i}" for kind in "AB" for i in range(12))
LAWS = {"affine_in": TRAINS, "apart_from_the_base": True}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """The last column of the update is the bias's."""
    n = sum(name[0] == "A" for name in p)
    parts = torch.cat([p[f"B{i}"] @ p[f"A{i}"] @ p["N"] for i in range(n)])
    update = parts.new_zeros(len(W), parts.shape[1]).index_put((p["rows"],), parts)
    d_in = W.shape[1]
    return W + update[:, :d_in], None if b is None else b + update[:, d_in]


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """Every row belongs to one cluster; N is orthonormal; B is zero."""
    rows = p["rows"].sort().values
    laws = [
        exactly("each row once", rows, torch.arange(len(W))),
        is_identity("N N^T = I", p["N"] @ p["N"].mT),
    ]
    return [*laws, *(is_zero(n, t, tuple(t.shape)) for n, t in p.items() if n[0] == "B")]
