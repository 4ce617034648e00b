"""Lily, arXiv:2407.09946 section 3: y' = y + s (x A) B(x), B a mixture of shared ones by a router of x A.

A (r, d_in), B (n r, d_out) is n matrices (r, d_out) below each other, R (n, r). The weights of the mixture
are the softmax of R x A averaged over all tokens, so a row depends on the others. options: s, n, r, init.

Looked up: peft's documentation of Lily has shared A and B and the softmax over the B, and no formula.
"""

from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_zero, kaiming, linear

SOURCE = "code"
TRAINS = ("A", "B", "R")
LAWS = {"linear_in": ("B",), "inputs": {"A": 1}, "outputs": {"B": 1}, "apart_from_the_base": True}


def forward(x: Tensor, W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> Tensor:
    """Not affine in x."""
    hidden = x @ p["A"].mT
    weights = (hidden @ p["R"].mT).softmax(-1).mean(0)
    B = p["B"].reshape(options["n"], -1, len(W))
    update = options["s"] * hidden @ (weights[:, None, None] * B).sum(0)
    return linear(x, W, b, update)


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """B is zero, the others are kaiming-uniform."""
    if not options["init"]:
        return []
    (d_out, d_in), r, n = W.shape, options["r"], options["n"]
    random = [*kaiming("A", p["A"], (r, d_in), d_in), *kaiming("R", p["R"], (n, r), r)]
    return [*random, is_zero("B", p["B"], (n * r, d_out))]
