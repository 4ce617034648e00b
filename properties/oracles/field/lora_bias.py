"""LoRA whose B has a bias: W' = W + s B A, b' = b + s c. options: r, alpha.

peft's `lora_bias`, "whether to enable the bias term for the LoRA B parameter".
"""

from torch import Tensor

from properties.oracles import lora
from properties.oracles.laws import Law, Options, Tensors, is_zero, scale

SOURCE = "documentation"
TRAINS = ("A", "B", "c")
LAWS = {
    "affine_in": ("A", "B", "c"),
    "any_order_of": {"A": 0, "B": 1},
    "unchanged_by": {"A": 1, "B": -1},
    "inputs": {"A": 1},
    "outputs": {"B": 0, "c": 0},
    "rank": 1,
    "apart_from_the_base": True,
}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """A layer without bias gets one."""
    s = scale(options)
    return W + s * p["B"] @ p["A"], s * p["c"] if b is None else b + s * p["c"]


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """As LoRA, and c is zero."""
    return [*lora.init_laws(W, b, p, options, None), is_zero("c", p["c"], (len(W),))]
