"""FRoD: W' = U (diag(ell) + S) V^T with W = U diag(ell) V^T, V shared by layers of one shape.

V is not orthogonal. U (d_out, n) has columns of norm 1, V (d_in, n); ell (n,) and the values s of the sparse
S, at the entries E (2, m), learn. options: init.

Looked up: peft's documentation of FRoD names a shared basis and sparse rotations, and has no formula.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_zero

SOURCE = "code"
TRAINS = ("ell", "s")
LAWS = {"affine_in": ("ell", "s"), "inputs": {"V": 0}, "outputs": {"U": 0}}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """W is in U, l and V as they stood at init, and nowhere else."""
    S = torch.diag(p["ell"]).index_put((p["E"][0], p["E"][1]), p["s"], accumulate=True)
    return p["U"] @ S @ p["V"].mT, b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """The factors are W."""
    if not options["init"]:
        return []
    U, V, ell = p["U"], p["V"], p["ell"]
    size = torch.linalg.vector_norm(ell) * torch.linalg.matrix_norm(V, 2)
    return [is_zero("s", p["s"], tuple(p["s"].shape)), Law("U diag(ell) V^T = W", (U * ell) @ V.mT, W, size)]
