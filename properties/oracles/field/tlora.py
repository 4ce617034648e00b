"""T-LoRA, arXiv:2507.05964 equations 3 and 4: W' = W + s (P diag(l) Q - P0 diag(l0) Q0), factors of an SVD.

P (d_out, r), l (1, r), Q (r, d_in), and copies of them at init; no time step masks a rank. options: r, alpha,
part: "principal", "last" or "middle" singular triplets; of_weight: of W, or of a random matrix.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, exactly, is_identity, scale

SOURCE = "paper"
TRAINS = ("P", "l", "Q")
LAWS = {
    "affine_in": ("P", "l", "Q"),
    "any_order_of": {"P": 1, "l": 1, "Q": 0},
    "unchanged_by": {"P": 1, "l": -1},
    "inputs": {"Q": 1, "Q0": 1},
    "outputs": {"P": 0, "P0": 0},
    "rank": 2,
    "apart_from_the_base": True,
}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """What is taken off is frozen."""
    update = (p["P"] * p["l"]) @ p["Q"] - (p["P0"] * p["l0"]) @ p["Q0"]
    return W + scale(options) * update, b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """Orthonormal factors, triplets of W's in order, copies bit for bit."""
    P, S, Q, r = p["P"], p["l"].flatten(), p["Q"], options["r"]
    laws = [exactly(f"{name}0 = {name}", p[f"{name}0"], p[name]) for name in ("P", "l", "Q")]
    laws += [is_identity("P^T P = I", P.mT @ P), is_identity("Q Q^T = I", Q @ Q.mT)]
    if options["of_weight"]:
        sigma = torch.linalg.svdvals(W)
        laws.append(Law("W Q^T = P diag(l)", W @ Q.mT, P * S, sigma[0]))
        laws.append(Law("the r largest singular values", S, sigma[:r], sigma[0]))
    return laws
