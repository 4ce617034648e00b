"""MiSS (Bone), arXiv:2409.15371 section 3: W' = W + D^T repeated along the inputs, D (r, d_out), or Bat.

Input j meets row j mod r of D. options: kind "miss"; "mini": D (r, mini_r), repeated along the outputs too;
"bat": W' = W + (W_ij + I) D_i for blocks of r x r, D (d_out / r, r, r), the same for a row of blocks. init.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Laws, Options, Tensors, is_zero, kaiming

SOURCE = "paper"
TRAINS = ("D",)


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """One shared matrix for every group of r inputs."""
    (d_out, d_in), D = W.shape, p["D"]
    if options["kind"] == "bat":
        r, new = D.shape[-1], W.clone()
        for i in range(d_out // r):
            for j in range(d_in // r):
                here = slice(i * r, (i + 1) * r), slice(j * r, (j + 1) * r)
                new[here] = W[here] + W[here] @ D[i] + D[i]
        return new, b
    if options["kind"] == "mini":
        D = D[:, torch.arange(d_out) % D.shape[1]]
    return W + D[torch.arange(d_in) % len(D)].mT, b


def laws(p: Tensors, options: Options) -> Laws:
    """Bat multiplies W; the others add what they are."""
    if options["kind"] == "bat":
        return {"linear_in": ("D",)}
    outputs = {"outputs": {"D": 1}} if options["kind"] == "miss" else {}
    return {"linear_in": ("D",), "apart_from_the_base": True, **outputs}


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """Zero, so that nothing changes."""
    shape = tuple(p["D"].shape)
    return [is_zero("D", p["D"], shape)] if options["init"] else kaiming("D", p["D"], shape, shape[1])
