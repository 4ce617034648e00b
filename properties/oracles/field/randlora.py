"""RandLoRA, arXiv:2502.00987 equation 3: W' = W + s sum_j B_j Lambda_j A Gamma_j, s = alpha / r.

B_j (larger width, r) and A (r, smaller width) are random, frozen and shared by all layers; lambda (r, n) and
gamma (n, smaller width) learn, n the number of terms that makes the sum of full rank. Transposed where the
layer has fewer outputs than inputs. options: r, alpha, init. The size of gamma at init is the library's.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_constant, is_zero, scale

SOURCE = "paper"
TRAINS = ("lambda_", "gamma")
LAWS = {
    "linear_in": ("lambda_", "gamma"),
    "unchanged_by": {"lambda_": 1, "gamma": -1},
    "apart_from_the_base": True,
}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """A (r, 1, smaller), B (larger, n, r)."""
    small, large = min(W.shape), max(W.shape)
    A, B = p["A"][:, 0, :small], p["B"][:large]
    terms = [
        B[:, j] @ p["lambda_"][:, j].diag() @ A @ p["gamma"][j].diag() for j in range(p["gamma"].shape[0])
    ]
    update = torch.stack(terms).sum(0)
    return W + scale(options) * (update if W.shape[1] == small else update.mT), b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """lambda is zero; enough terms for a full rank."""
    if not options["init"]:
        return []
    small = min(W.shape)
    n = -(-small // options["r"])
    gamma = is_constant("gamma", p["gamma"], (n, small), 1 / max(n, small))
    return [is_zero("lambda", p["lambda_"], (options["r"], n)), gamma]
