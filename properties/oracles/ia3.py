"""(IA)^3 on a layer's output, arXiv:2205.05638 section 3.3: y' = g * y, the bias included."""

from torch import Tensor

from .laws import Law, Options, Tensors, is_zero, linear


def forward(
    x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Tensors, p0: Tensors, options: Options
) -> Tensor:
    """Output of the adapted layer."""
    gate = 1 + p["offset"]
    return linear(x, gate.unsqueeze(-1) * W, None if b is None else gate * b, gate.unsqueeze(-2) * e)


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options, inputs: Tensor | None) -> list[Law]:
    """The gate is exactly 1."""
    return [is_zero("offset", p["offset"], (W.shape[0],))]
