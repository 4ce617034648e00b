"""The one product that most variants share: a low-rank update added to the base output."""

import torch
import torch.nn.functional as F
from torch import Tensor

# What y + s B A x keeps, however A and B start.
LAWS = {
    "trains": ("A", "B"),
    "proportional_to": ("alpha",),
    "linear_in": ("A", "B"),
    "any_order_of": {"A": 0, "B": 1},
    "one_more_zero": {"A": 0, "B": 1},
    "composed_of": {"A": 0, "B": 1},
    "repeated": {"A": 0, "B": 1},
    "unchanged_by": {"A": 1, "B": -1},
    "inputs": {"A": 1},
    "outputs": {"B": 0},
    "rank": 1,
    "apart_from_the_base": True,
}


def add_low_rank(y: Tensor, x: Tensor, A: Tensor, B: Tensor, scale: float = 1.0) -> Tensor:
    """y + scale (x Aᵀ) Bᵀ.

    x (..., d_in), A (r, d_in), B (d_out, r), y (..., d_out); computed in the dtype of A and B.
    """
    return add_up(y, F.linear(x.to(A.dtype), A), B, scale)


def add_up(y: Tensor, h: Tensor, B: Tensor, scale: float = 1.0) -> Tensor:
    """y + scale h Bᵀ.  h (..., r), B (d_out, r), y (..., d_out).

    In one dtype throughout, product and sum are one kernel (for a few tokens two are faster); elsewhere the
    sum is taken in the wider dtype of the two.
    """
    tokens = y.numel() // len(B)
    # One kernel may scale h first, which overflows where the product with B, say of a fresh one, does not.
    if 4 * tokens < len(B) or y.dtype != B.dtype or scale > torch.finfo(B.dtype).max ** 0.5:
        return torch.add(y, F.linear(h, B), alpha=scale)
    # A copy of B pays where tokens are many: a gradient is laid out as its factor is, and hᵀ g takes half the
    # time of gᵀ h.
    up = B.t().contiguous()
    if y.dim() == 2:
        return torch.addmm(y, h, up, alpha=scale)
    flat = torch.addmm(y.reshape(-1, y.shape[-1]), h.reshape(-1, h.shape[-1]), up, alpha=scale)
    return flat.view(y.shape)
