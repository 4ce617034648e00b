"""GLoRA, arXiv:2306.07967 equation 5: W' = W + W A + B, b' = b + b D + E + W C; scaled by s in LyCORIS.

Each of A to E is whole, or a product A_d A_u, or a vector or a number that is spread; what is missing is
zero. options: product "entries" (W ∘ A, A as large as W: authors' code and peft) or "matrix" (A (d_in, d_in):
LyCORIS), which the paper leaves open; s (LyCORIS has r, alpha and rs); init; zero: the factor that starts at
zero, "d" or "u".
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_zero, kaiming, scale

SOURCE = "paper"
TRAINS = ("c", *(f"{path}{factor}" for path in "ABCDE" for factor in ("d", "u", "")))
LAWS = {"affine_in": TRAINS}


def path(p: Tensors, name: str) -> Tensor | float:
    """Whole, or of its two factors, or zero."""
    if f"{name}d" in p:
        return p[f"{name}d"] @ p[f"{name}u"]
    return p.get(name, 0.0)


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """c is a scalar in front of all of the update."""
    A, B, C, D, E = (path(p, name) for name in "ABCDE")
    product = W * A if options["product"] == "entries" else W @ torch.as_tensor(A)
    s = (scale(options) if "r" in options else 1.0) * p.get("c", torch.ones(()).to(W))
    if b is not None:
        shift = (W @ C).squeeze(-1) if isinstance(C, Tensor) else 0.0
        b = b + b * D + E + shift
    return W + s * (product + B), b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """One factor of each product is zero and the other kaiming-uniform; what is no product is zero;
    or the scalar c alone."""
    if not options["init"]:
        return []
    zero = None if "c" in p else options["zero"]
    laws = [is_zero(n, t, tuple(t.shape)) for n, t in p.items() if len(n) == 1 or n[1] == zero]
    other = [(n, t) for n, t in p.items() if len(n) == 2 and n[1] != zero]
    return laws + [law for n, t in other for law in kaiming(n, t, tuple(t.shape), t.shape[1])]
