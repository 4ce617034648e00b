"""HiRA, openreview TwJrTz9cRS equation 4: W' = W + W ∘ (B A).

options: r, init "kaiming", "normal" or "random".

Looked up: peft's documentation of HiRA has this formula.
"""

from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_zero, kaiming, normal

SOURCE = "paper"
TRAINS = ("A", "B")
LAWS = {
    "linear_in": ("A", "B"),
    "any_order_of": {"A": 0, "B": 1},
    "unchanged_by": {"A": 1, "B": -1},
    "inputs": {"A": 1},
    "outputs": {"B": 0},
}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """A (r, d_in), B (d_out, r); no scale."""
    return W + W * (p["B"] @ p["A"]), b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """B is zero."""
    (d_out, d_in), r, init = W.shape, options["r"], options["init"]
    if init == "random":
        return [*normal("A", p["A"], (r, d_in), 1.0), *normal("B", p["B"], (d_out, r), 1.0)]
    A = kaiming("A", p["A"], (r, d_in), d_in) if init == "kaiming" else normal("A", p["A"], (r, d_in), 1 / r)
    return [*A, is_zero("B", p["B"], (d_out, r))]
