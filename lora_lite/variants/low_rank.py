"""The one product that most variants share: a low-rank update added to the base output."""

import torch
import torch.nn.functional as F
from torch import Tensor


def add_low_rank(y: Tensor, x: Tensor, A: Tensor, B: Tensor, scale: float = 1.0) -> Tensor:
    """y + scale (x Aᵀ) Bᵀ.  x (..., d_in), A (r, d_in), B (d_out, r), y (..., d_out); computed in the dtype of A and B.

    Where y has that dtype too, product and sum are one kernel; elsewhere the sum is taken in the wider dtype of the two.
    """
    h = F.linear(x.to(A.dtype), A)
    if y.dtype != B.dtype:
        return y + scale * F.linear(h, B)
    flat = torch.addmm(y.reshape(-1, y.shape[-1]), h.reshape(-1, h.shape[-1]), B.t(), alpha=scale)
    return flat.view(y.shape)
