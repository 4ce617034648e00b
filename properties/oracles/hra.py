"""HRA, arXiv:2405.17484 section 3.1: W' = W H_0 H_1 ... H_{r-1}, H_i = I - 2 u_i u_i^T / |u_i|^2."""

import torch
from torch import Tensor

from .laws import Law, Options, Tensors, exactly, kaiming, linear


def forward(
    x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Tensors, p0: Tensors, options: Options
) -> Tensor:
    """Output of the adapted layer; H_i = I where u_i is zero."""
    # x W'^T one reflection at a time, the last one meets x first: the dense H_i are d_in^3 each.
    for u in reversed(p["U"].unbind(-2)):
        squared = (u * u).sum(-1)[..., None, None]
        squared = torch.where(squared == 0, 1.0, squared)  # u is zero there, so H = I with a finite gradient
        x = x - 2 * (x @ u.unsqueeze(-1)) * u.unsqueeze(-2) / squared
    return linear(x, W, b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options, inputs: Tensor | None) -> list[Law]:
    """Kaiming-uniform rows, each twice in a row so that the reflections cancel, and no row in two pairs."""
    U, r, d_in = p["U"], options["r"], W.shape[1]
    pairs = U[0::2]
    laws = [
        *kaiming("U", U, (r, d_in), d_in, independent=pairs.numel()),
        exactly("the two rows of a pair are equal", pairs, U[1::2]),
    ]
    if d_in >= 4:  # with fewer entries two bfloat16 rows may agree by chance
        distinct = torch.unique(pairs, dim=0)
        laws.append(exactly("pairs are distinct", U.new_tensor(len(distinct)), U.new_tensor(r // 2)))
    return laws
