"""PSOFT, arXiv:2505.11235 equation 7: W' = W + s B (diag(beta) R diag(alpha) - I) A.

s B A is the top-r SVD of W. R (r, r) is a Cayley map of a skew Q, q its entries above the diagonal, or with
orth False any matrix M. options: r, alpha, split: "right" (B has all singular values) or "both" (half of
each, as PiSSA); terms of the Neumann series, None for the exact map; init.

Looked up: peft's documentation of PSOFT has this formula, with the names of alpha and beta exchanged: it puts
alpha beside the factor of the outputs, where the code has vector_b.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_constant, is_zero, scale
from properties.oracles.rotations import cayley, neumann, skew

SOURCE = "paper"
TRAINS = ("q", "M", "beta", "alpha")
LAWS = {
    "affine_in": ("beta", "alpha"),
    "inputs": {"A": 1},
    "outputs": {"B": 0},
    "rank": 1,
    "apart_from_the_base": True,
}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """A (r, d_in) and B (d_out, r) are frozen."""
    r = options["r"]
    if "q" in p:
        Q = skew(p["q"][None], r)[0]
        R = cayley(Q) if options["terms"] is None else neumann(Q, options["terms"])
    else:
        R = p["M"]
    ones = torch.ones(r).to(W)
    R = p.get("beta", ones).diag() @ R @ p.get("alpha", ones).diag()
    return W + scale({**options, "alpha": options["scale"]}) * p["B"] @ (R - torch.eye(r).to(W)) @ p["A"], b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """The r largest singular triplets of W with the scaling divided out; no rotation."""
    r, s = options["r"], scale({**options, "alpha": options["scale"]})
    sigma = torch.linalg.svdvals(W)
    top, S, A, B = sigma[0], sigma[:r], p["A"], p["B"]
    factor = (top / s).sqrt() if options["split"] == "both" else torch.ones(()).to(W)
    right = S.diag() / s if options["split"] == "both" else torch.eye(r).to(W)
    laws = [
        Law("A A^T", A @ A.mT, right, top / s if options["split"] == "both" else 1.0),
        Law("s B A A^T = W A^T", s * B @ (A @ A.mT), W @ A.mT, top * factor),
        Law("the r largest singular values", torch.linalg.svdvals(s * B @ A)[:r], S, top),
    ]
    if not options["init"]:
        return laws
    still = [is_zero("q", p["q"], (r * (r - 1) // 2,))] if "q" in p else []
    return [*laws, *still, *(is_constant(n, p[n], (r,), 1.0) for n in ("alpha", "beta") if n in p)]
