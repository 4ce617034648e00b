"""AntiPaSTO, arXiv:2601.07473 equation 4: W' = W + U (S + dS) R V^T - U S V^T, top r, R a rotation.

R is block-diagonal; each block is the Cayley map of a skew matrix with bounded entries.
"""

import math

import torch
from torch import Tensor

from .laws import Law, Options, Tensors, is_identity, is_zero, linear, never


def rotation(rot: Tensor, block_size: int, max_skew: float) -> Tensor:
    """(..., r/bs, bs(bs-1)/2) -> (..., r, r): R = (I - K/2)^-1 (I + K/2) per block, K = a tanh((T - T^T) /
    2a).
    """
    rows, columns = torch.triu_indices(block_size, block_size, offset=1)
    T = rot.new_zeros(*rot.shape[:-1], block_size, block_size)
    T[..., rows, columns] = rot
    a = 2 * math.tan(max_skew / 2)
    X = a * torch.tanh((T - T.mT) / (2 * a)) / 2
    eye = torch.eye(block_size).to(rot)
    blocks = torch.linalg.solve(eye - X, eye + X)
    r = rot.shape[-2] * block_size
    R = rot.new_zeros(*rot.shape[:-2], r, r)
    for i, block in enumerate(blocks.unbind(-3)):
        here = slice(i * block_size, (i + 1) * block_size)
        R[..., here, here] = block
    return R


def forward(
    x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Tensors, p0: Tensors, options: Options
) -> Tensor:
    """Output of the adapted layer; U, S and Vh as at init, since W alone does not determine them."""
    U, S, Vh = p0["U"].detach(), p0["S"].detach(), p0["Vh"].detach()
    U_new, Vh_new = U, Vh
    if options["rotate_basis"] != "none":
        R = rotation(p["rot"], options["block_size"], options["max_skew"])
        if options["rotate_basis"] == "V":
            Vh_new = R @ Vh
        else:
            U_new = U @ R.mT
    adapted = W + U_new @ torch.diag_embed(S + p["delta_s"]) @ Vh_new - U @ torch.diag_embed(S) @ Vh
    return linear(x, adapted, b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options, inputs: Tensor | None) -> list[Law]:
    """Zero trainables; U, S, Vh are singular triples of W: the r largest, or with inputs the r best
    scored.
    """
    U, S, Vh, r = p["U"], p["S"], p["Vh"], options["r"]
    _, sigma, Vh_all = torch.linalg.svd(W, full_matrices=False)
    top = sigma[0]
    laws = [
        is_zero("delta_s", p["delta_s"], (r,)),
        is_identity("U^T U = I", U.mT @ U),
        is_identity("Vh Vh^T = I", Vh @ Vh.mT),
        Law("W Vh^T = U diag(S)", W @ Vh.mT, U * S, top),
        Law("W^T U = Vh^T diag(S)", W.mT @ U, Vh.mT * S, top),
        never("S >= 0", -S),
    ]
    if options["rotate_basis"] != "none":
        bs = options["block_size"]
        laws.append(is_zero("rot", p["rot"], (r // bs, bs * (bs - 1) // 2)))
    if inputs is None:
        return [
            *laws,
            Law("S = the r largest singular values", S.sort(descending=True).values, sigma[:r], top),
        ]

    # A direction is unique only as far as its singular value is apart from the others, zero included.
    # Singular values that are zero need no gap among themselves: their score is zero in any basis. Tied
    # scores need none either: whichever was taken, the sorted scores are the same.
    positive = sigma[sigma > 1e-6 * top]
    gap = (positive - torch.cat((positive[1:], positive.new_zeros(1)))).amin() if len(positive) else top
    if gap > 1e-3 * top:
        best = (sigma * (inputs @ Vh_all.mT).abs().mean(0)).sort(descending=True).values[:r]
        scores = (S * (inputs @ Vh.mT).abs().mean(0)).sort(descending=True).values
        # Rounding W by eps * top turns a singular vector by up to eps * top / gap.
        magnitude = top * torch.linalg.vector_norm(inputs, dim=-1).mean() * (1 + top / gap)
        laws.append(Law("the r largest S_i mean|x . v_i|", scores, best, magnitude))
    return laws
