"""TinyLoRA, arXiv:2602.04118 section 3: W' = W + B (sum_i v_i P_i) A, B A the top-r SVD of W, P_i random.

v (u,) learns; P (u, r, r), A (r, d_in) and B (d_out, r) are frozen. peft has half of the singular values in
each of A and B, the paper all of them in B. options: r, u, bound of v's init, init.

Looked up: peft's documentation of TinyLoRA has the sum over P_i; the factors of the SVD are from its code.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, normal, uniform

SOURCE = "code"
TRAINS = ("v",)
LAWS = {"linear_in": ("v",), "inputs": {"A": 1}, "outputs": {"B": 0}, "rank": 1, "apart_from_the_base": True}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """A handful of numbers learns."""
    R = (p["v"][:, None, None] * p["P"]).sum(0)
    return W + p["B"] @ R @ p["A"], b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """The largest triplets, balanced; P normal with deviation 1 / sqrt(r); v uniform."""
    sigma, A, B = torch.linalg.svdvals(W), p["A"], p["B"]
    S, r = sigma[: len(A)], min(options["r"], len(sigma))
    laws = [
        Law("A A^T = diag(S)", A @ A.mT, S.diag(), sigma[0]),
        Law("B^T B = diag(S)", B.mT @ B, S.diag(), sigma[0]),
        Law("W A^T = B diag(S)", W @ A.mT, B * S, sigma[0] ** 1.5),
        *normal("P", p["P"], (options["u"], r, r), r**-0.5),
    ]
    return [*laws, *uniform("v", p["v"], (options["u"],), options["bound"])] if options["init"] else laws
