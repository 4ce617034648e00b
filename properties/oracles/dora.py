"""DoRA, arXiv:2402.09353 equation 5 and section 4.3: W' = m V / |V|, V = W + s B A, norms over rows
(outputs).
"""

import torch
from torch import Tensor

from . import lora
from .laws import Law, Options, Tensors, linear, lora_scale


def forward(
    x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Tensors, p0: Tensors, options: Options
) -> Tensor:
    """Output of the adapted layer; the norm is a constant to the gradient (section 4.3)."""
    V = W + lora_scale(options) * p["B"] @ p["A"]
    n = torch.linalg.vector_norm(V.detach(), dim=-1)
    n = torch.where(n == 0, 1.0, n)  # a zero row has no direction: it stays zero, and can still be trained
    ratio = p["m"] / n
    return linear(x, ratio.unsqueeze(-1) * V, b, ratio.unsqueeze(-2) * e)


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options, inputs: Tensor | None) -> list[Law]:
    """A and B as in LoRA; m holds the row norms of W."""
    norms = torch.linalg.vector_norm(W, dim=-1)
    return [*lora.init_laws(W, b, p, options, inputs), Law("m = row norms of W", p["m"], norms, norms)]
