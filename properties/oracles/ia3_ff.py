"""(IA)^3 on a feed-forward layer's input, arXiv:2205.05638 section 3.3: y' = W (g * x) + b."""

from torch import Tensor

from .laws import Law, Options, Tensors, is_zero, linear


def forward(
    x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Tensors, p0: Tensors, options: Options
) -> Tensor:
    """Output of the adapted layer; the bias is not scaled."""
    return linear(x, W * (1 + p["offset"]).unsqueeze(-2), b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options, inputs: Tensor | None) -> list[Law]:
    """The gate is exactly 1."""
    return [is_zero("offset", p["offset"], (W.shape[1],))]
