"""OFT, arXiv:2306.07280 section 3.3: W' = W R^T or diag(m) R W, R block-diagonal, each block a Cayley map.

Q is skew, q its entries above the diagonal, (blocks, b (b - 1) / 2), or D a whole matrix with Q = D - D^T.
options: side "in" (the input is rotated by R^T, OFTv2) or "out" (R^T on the output, LyCORIS); terms: of the
Neumann series in place of the inverse, None for the exact map; shared: one block for all; limit: COFT in
LyCORIS, the norm of all of Q is at most that times d_out; within: COFT in peft, by its code: that of each
of n blocks is at most within / sqrt(n), and the nearest such Q is put in its place before each call, for the
gradient too; block_size: what was asked for; init.

Looked up: version 3 of the paper, sections 3.2 to 3.4, has y = (R W0)^T x for W0 (d_in, d_out), which rotates
inputs, R = (I + Q)(I - Q)^-1, blocks that may be shared, and for COFT a bound on |R - I| and not on |Q|.
"""

import math

import torch
from torch import Tensor

from properties.oracles.laws import Law, Laws, Options, Tensors, exactly, is_constant, is_zero, normal
from properties.oracles.rotations import blocks, cayley, neumann, skew

SOURCE = "paper"
READING = {"side": "in"}
TRAINS = ("q", "D", "m")


def size_of(q: Tensor) -> int:
    """b, of b (b - 1) / 2 entries."""
    return (1 + math.isqrt(1 + 8 * q.shape[-1])) // 2


def nearest(Q: Tensor, within: float) -> Tensor:
    """Each block, no longer than its share of that."""
    norms = Q.square().sum((1, 2), keepdim=True).clamp(min=torch.finfo(Q.dtype).tiny).sqrt()
    limit = within / math.sqrt(len(Q))
    return Q * torch.where(norms > limit, limit / norms, 1.0)


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """x is rotated before W sees it, or W x after; m (d_out, 1) scales rows."""
    Q = skew(p["q"], size_of(p["q"])) if "q" in p else p["D"] - p["D"].mT
    if options.get("limit"):
        # Where Q is zero its norm has no gradient.
        norm = Q.square().sum().clamp(min=torch.finfo(Q.dtype).tiny).sqrt()
        limit = options["limit"] * len(W)
        Q = Q * torch.where(norm > limit, limit / norm, 1.0)
    if options.get("within"):
        Q = Q + (nearest(Q, options["within"]) - Q).detach()
    R = cayley(Q) if options["terms"] is None else neumann(Q, options["terms"])
    width = W.shape[1] if options["side"] == "in" else W.shape[0]
    if options.get("shared"):
        R = R.expand(width // R.shape[-1], -1, -1)
    W = W @ blocks(R).mT if options["side"] == "in" else blocks(R).mT @ W
    return (p["m"] * W if "m" in p else W), b


def laws(p: Tensors, options: Options) -> Laws:
    """An exact rotation keeps what a rotation keeps; a Neumann series is none."""
    axis, other = ("row", {"outputs": {"m": 0}}) if options["side"] == "in" else ("column", {"inputs": {}})
    exact = options["terms"] is None and "m" not in p
    kept = {"keeps": ("singular values", f"{axis} norms", f"{axis} angles")} if exact else {}
    scaled = {"affine_in": ("m",)} if "m" in p else {}
    return {**scaled, **other, **kept}


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """No rotation, no scaling, and blocks as large as was asked for where that divides the width."""
    name = "q" if "q" in p else "D"
    if not options["init"]:
        return normal(name, p[name], tuple(p[name].shape), 0.1)
    size, width = options.get("block_size"), W.shape[1]
    sizes = []
    if size and width % size == 0:
        shape = (1 if options.get("shared") else width // size, size * (size - 1) // 2)
        sizes = [exactly("the shape of q", W.new_tensor(p["q"].shape), W.new_tensor(shape))]
    m = [is_constant("m", p["m"], (len(W), 1), 1.0)] if "m" in p else []
    return [*sizes, is_zero(name, p[name], tuple(p[name].shape)), *m]
