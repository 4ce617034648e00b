"""GraLoRA, arXiv:2505.20355 section 3: a LoRA of rank r / k for each of k x k blocks of W.

A (k, d_in / k, r) and B (k, r, d_out / k) hold the factors of a column and of a row of blocks: block (i, j)
of the update is made of part j of B_i and part i of A_j. H_A (h, d_in), H_B (d_out, h): a LoRA beside it. All
of it is scaled by alpha / (r + h). options: r, alpha, k, h, init.

Looked up: a review of the paper has k x k blocks with a pair of factors each.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_zero, kaiming

SOURCE = "paper"
TRAINS = ("A", "B", "H_A", "H_B")
LAWS = {"affine_in": TRAINS, "apart_from_the_base": True}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """Block by block."""
    k, A, B = options["k"], p["A"], p["B"]
    part = A.shape[-1] // k
    here = [slice(i * part, (i + 1) * part) for i in range(k)]
    rows = [torch.cat([B[i, here[j]].mT @ A[j, :, here[i]].mT for j in range(k)], dim=1) for i in range(k)]
    update = torch.cat(rows)
    if "H_A" in p:
        update = update + p["H_B"] @ p["H_A"]
    return W + options["alpha"] / (options["r"] + options["h"]) * update, b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """A is kaiming-uniform by the width of a block, B is zero."""
    if not options["init"]:
        return []
    (d_out, d_in), k, r, h = W.shape, options["k"], options["r"], options["h"]
    laws = [*kaiming("A", p["A"], (k, d_in // k, r), d_in // k), is_zero("B", p["B"], (k, r, d_out // k))]
    if "H_A" in p:
        laws += [*kaiming("H_A", p["H_A"], (h, d_in), d_in), is_zero("H_B", p["H_B"], (d_out, h))]
    return laws
