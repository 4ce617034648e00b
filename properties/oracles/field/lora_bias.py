"""LoRA whose B has a bias: W' = W + s B A, b' = b + s c. options: r, alpha.

peft's `lora_bias`, "whether to enable the bias term for the LoRA B parameter".
"""

from torch import Tensor

from properties.oracles import lora
from properties.oracles.laws import Law, Options, Tensors, is_zero, scale

SOURCE = "documentation"
TRAINS = ("A", "B", "c")


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """A layer without bias gets one."""
    s = scale(options)
    return W + s * p["B"] @ p["A"], s * p["c"] if b is None else b + s * p["c"]


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """As LoRA, and c is zero."""
    return [*lora.init_laws(W, b, p, options, None), is_zero("c", p["c"], (len(W),))]
