"""BOFT, arXiv:2311.06243 section 4: W' = diag(m) B~_M ... B~_1 acting on one side of W, m trained.

A factor B~_i is P^T diag(R_1 ... R_n) P: P brings together what the i-th stage of a butterfly mixes, and each
block is a Cayley map of Q = c (D - D^T). D (M, n, b, b). options: side "in" or "out", sign of Q, half (c =
1/2 as in the authors' code, else 1), limit as in oft, init.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_constant, is_zero, normal
from properties.oracles.rotations import blocks, cayley

SOURCE = "paper"
TRAINS = ("D", "m")
LAWS = {"affine_in": ("m",)}


def order(width: int, size: int, stage: int) -> list[int]:
    """Which entry stands where, so that a block holds those that are half a block times 2^stage apart."""
    step = 2**stage * (size // 2)
    groups = [range(start, start + 2 * step) for start in range(0, width, 2 * step)]
    return [group[i + half * step] for group in groups for i in range(step) for half in (0, 1)]


def rotation(D: Tensor, options: Options) -> Tensor:
    """The product of all stages, the first one rightmost."""
    Q = D - D.mT
    if options.get("limit"):
        # Where Q is zero its norm has no gradient.
        norm = Q.square().sum().clamp(min=torch.finfo(Q.dtype).tiny).sqrt()
        limit = options["limit"] * D.shape[1] * D.shape[2]
        Q = Q * torch.where(norm > limit, limit / norm, 1.0)
    stages = cayley(options["sign"] * (Q / 2 if options["half"] else Q))
    width, size = D.shape[1] * D.shape[2], D.shape[2]
    R = torch.eye(width).to(D)
    for i, stage in enumerate(stages):
        P = torch.eye(width).to(D)
        if options["side"] == "out":
            P = P[order(width, size, i)]
        R = P.mT @ blocks(stage) @ P @ R
    return R


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """The bias is not scaled."""
    R = rotation(p["D"], options)
    W = W @ R.mT if options["side"] == "in" else R @ W
    return (p["m"] * W if "m" in p else W), b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """No rotation, no scaling."""
    if not options["init"]:
        return normal("D", p["D"], tuple(p["D"].shape), 0.1)
    m = [is_constant("m", p["m"], (len(W), 1), 1.0)] if "m" in p else []
    return [is_zero("D", p["D"], tuple(p["D"].shape)), *m]
