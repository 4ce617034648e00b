"""DeLoRA, arXiv:2503.18225 section 3: dW = lambda/r B diag(1 / (|A_i| |B_i|)) A diag(column norms of W).

The column norms are those of the authors' code and of peft; the paper has the Frobenius norm of W.
"""

import torch
from torch import Tensor

from .laws import Law, Options, Tensors, exactly, is_zero, kaiming, linear


def delta(W: Tensor, A: Tensor, B: Tensor, lambda_: Tensor, options: Options) -> Tensor:
    """The adapter's weight update.

    With zero_b norms are floored at 1e-4, as in peft/tuners/delora/layer.py.
    """
    floor = 1e-4 if options["init"] == "zero_b" else 0.0
    w: Tensor = torch.linalg.vector_norm(W, dim=-2)
    A_norms: Tensor = torch.linalg.vector_norm(A, dim=-1).clamp(min=floor)
    B_norms: Tensor = torch.linalg.vector_norm(B, dim=-2).clamp(min=floor)
    diagonal = torch.diag_embed(lambda_ / options["r"] / (A_norms * B_norms))
    return B @ diagonal @ A * w.unsqueeze(-2)


def forward(
    x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Tensors, p0: Tensors, options: Options
) -> Tensor:
    """Output of the adapted layer; "frozen_copy" (equation 9) subtracts the update as it stood at init."""
    adapted = W + delta(W, p["A"], p["B"], p["lambda_"], options)
    if options["init"] == "frozen_copy":
        adapted = adapted - delta(W, p0["A"], p0["B"], p0["lambda_"], options).detach()
    return linear(x, adapted, b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options, inputs: Tensor | None) -> list[Law]:
    """A kaiming-uniform, B likewise or zero, lambda as configured, w the column norms, the frozen copies
    exact.
    """
    (d_out, d_in), r = W.shape, options["r"]
    norms = torch.linalg.vector_norm(W, dim=-2)
    wanted = W.new_tensor([float(options["lambda_init"])])
    laws = [
        *kaiming("A", p["A"], (r, d_in), d_in),
        Law("lambda_ = lambda_init", p["lambda_"], wanted, wanted.abs()),
        Law("w = column norms of W", p["w"], norms, norms),
    ]
    if options["init"] == "zero_b":
        return [*laws, is_zero("B", p["B"], (d_out, r))]
    copies = (("A0", "A"), ("B0", "B"), ("lambda0", "lambda_"))
    return [
        *laws,
        *kaiming("B", p["B"], (d_out, r), r),
        *(exactly(f"{copy} = {name}", p[copy], p[name]) for copy, name in copies),
    ]
