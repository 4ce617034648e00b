"""HRA with its vectors as columns of U (d_in, r), arXiv:2405.17484 section 3: W' = W H_0 H_1 ... H_{r-1}.

options: r, gs: the columns are made orthonormal by Gram-Schmidt first (section 3.2), after which their order
does not matter; init. Authors and peft draw U by its second width, which a reflection does not see.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, exactly, kaiming

SOURCE = "paper"
TRAINS = ("U",)
LAWS = {
    "unchanged_by": {"U": 1},
    "inputs": {"U": 0},
    "outputs": {},
    "rank": 1,
    "keeps": ("singular values", "row norms", "row angles"),
}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """H_i = I - 2 u_i u_i^T / |u_i|^2."""
    done: list[Tensor] = []
    for u in p["U"].unbind(-1):
        for v in done if options["gs"] else ():
            u = u - (v @ u) * v
        done.append(u / torch.linalg.vector_norm(u))
    for u in done:
        W = W - 2 * torch.outer(W @ u, u)
    return W, b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """Of an even rank, columns in pairs."""
    U, r, d_in = p["U"], options["r"], W.shape[1]
    if not options["init"] or r % 2:
        return kaiming("U", U, (d_in, r), r)
    pairs = exactly("the columns of a pair are equal", U[:, ::2], U[:, 1::2])
    return [pairs, *kaiming("U", U, (d_in, r), r // 2, independent=d_in * r // 2)]
