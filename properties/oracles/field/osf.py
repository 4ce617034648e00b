"""OSF, arXiv:2504.07097 section 3: W' = W_high + U diag(S) V, the lowest singular triplets of W alone learn.

U (d_out, n), S (n,), V (n, d_in); U0, S0, V0 as they were at init. The gradients of U and V are projected
away from the singular vectors that are kept, here as maps whose value is U and V. options: kept, their number
(None: half of all), init.

Looked up: peft's documentation of OSF has the split of W, the projection of gradients and what is kept.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_identity

SOURCE = "paper"
TRAINS = ("U", "S", "V")
LAWS = {"affine_in": ("S",)}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """U_high and V_high are the kept vectors, or, of a square matrix of vectors, what U0 and V0 leave."""
    U, V, U0, V0 = p["U"], p["V"], p["U0"], p["V0"]
    left = torch.eye(len(U)).to(W) - p["U_high"] @ p["U_high"].mT if "U_high" in p else U0 @ U0.mT
    right = torch.eye(V.shape[1]).to(W) - p["V_high"].mT @ p["V_high"] if "V_high" in p else V0.mT @ V0
    U = U.detach() + left @ (U - U.detach())
    V = V.detach() + (V - V.detach()) @ right
    return W - U0 @ p["S0"].diag() @ V0 + U @ p["S"].diag() @ V, b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """The lowest triplets: W v = S u, W^T u = S v, S the smallest singular values."""
    if not options["init"]:
        return []
    sigma = torch.linalg.svdvals(W)
    kept = options["kept"] if options["kept"] is not None else len(sigma) // 2
    U, S, V = p["U"], p["S"], p["V"]
    return [
        is_identity("U^T U = I", U.mT @ U),
        is_identity("V V^T = I", V @ V.mT),
        Law("W V^T = U diag(S)", W @ V.mT, U * S, sigma[0]),
        Law("U^T W = diag(S) V", U.mT @ W, S[:, None] * V, sigma[0]),
        Law("the smallest singular values", S, sigma[min(kept, len(sigma)) :], sigma[0]),
    ]
