"""DyLoRA, arXiv:2210.07558 equations 2 and 5: W' = W + alpha / b B[:, :b] A[:b], b the rank that is drawn.

A (r, d_in), B (d_out, r). At the full rank b = r: the only one there is, where a block is the whole rank.
options: r, alpha. init: A kaiming-uniform, B zero.
"""

from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_zero, kaiming, scale

SOURCE = "paper"
TRAINS = ("A", "B")
LAWS = {
    "proportional_to": ("alpha",),
    "linear_in": ("A", "B"),
    "any_order_of": {"A": 0, "B": 1},
    "unchanged_by": {"A": 1, "B": -1},
    "inputs": {"A": 1},
    "outputs": {"B": 0},
    "rank": 1,
    "apart_from_the_base": True,
}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """At b = r."""
    return W + scale(options) * p["B"] @ p["A"], b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """As LoRA."""
    (d_out, d_in), r = W.shape, options["r"]
    return [*kaiming("A", p["A"], (r, d_in), d_in), is_zero("B", p["B"], (d_out, r))]
