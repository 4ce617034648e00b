"""LoRA from other starts: W' = W + s (B A - B_0 A_0), what was put into A and B being taken off the weight.

options: r, alpha; start: "gaussian" (A of deviation 1 / r), "random", "olora" (arXiv:2406.01775 algorithm 1:
Q and R of W), "orthogonal" (B A = 0), "eva" and "loftq" (see data_driven.py; W is then what few bits hold).
"""

from torch import Tensor

from properties.oracles.laws import (
    Law,
    Options,
    Tensors,
    is_identity,
    is_zero,
    kaiming,
    normal,
    scale,
)

SOURCE = "paper"
TRAINS = ("A", "B")
LAWS = {
    "affine_in": ("A", "B"),
    "unchanged_by": {"A": 1, "B": -1},
    "any_order_of": {"A": 0, "B": 1},
    "rank": 2,
}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """Only OLoRA writes to the weight; the others start without it, or with a B that is random on purpose."""
    start = p["initial B"] @ p["initial A"] if options["start"] == "olora" else 0.0
    return W + scale(options) * (p["B"] @ p["A"] - start), b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """By the start."""
    (d_out, d_in), r, A, B = W.shape, options["r"], p["A"], p["B"]
    if options["start"] == "gaussian":
        return [*normal("A", A, (r, d_in), 1 / r), is_zero("B", B, (d_out, r))]
    if options["start"] == "random":
        return [*kaiming("A", A, (r, d_in), d_in), *kaiming("B", B, (d_out, r), r)]
    if options["start"] == "orthogonal":
        size = A.abs().amax() * B.abs().amax() * r
        zero = Law("B A = 0", B @ A, W.new_zeros(W.shape), size)
        return [*normal("A", A, (r, d_in), 0.07), *normal("B", B, (d_out, r), 0.07), zero]
    if options["start"] == "olora":
        size = W.square().sum(0).amax().sqrt()
        return [
            is_identity("B^T B = I", B.mT @ B),
            Law("A = B^T W", A, B.mT @ W, size),
            Law("A is an upper triangle", A.tril(-1), W.new_zeros(A.shape), size),
        ]
    return []
