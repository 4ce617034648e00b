"""LoRA, arXiv:2106.09685 section 4.1: W' = W + s B A."""

from torch import Tensor

from .laws import Law, Options, Tensors, is_zero, kaiming, linear, lora_scale


def forward(
    x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Tensors, p0: Tensors, options: Options
) -> Tensor:
    """Output of the adapted layer."""
    return linear(x, W + lora_scale(options) * p["B"] @ p["A"], b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options, inputs: Tensor | None) -> list[Law]:
    """A is kaiming-uniform, B is zero."""
    (d_out, d_in), r = W.shape, options["r"]
    return [*kaiming("A", p["A"], (r, d_in), d_in), is_zero("B", p["B"], (d_out, r))]
