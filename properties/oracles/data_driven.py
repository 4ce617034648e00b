"""What an init from data leaves, given the weight W and the inputs (tokens, d_in) that the layer was given.

EVA, arXiv:2410.07170 section 3.2: A is the top right singular vectors of the centred inputs, B is zero. peft
takes them from a randomised SVD of twice as many directions, which is exact where these are all there are.

CorDA, arXiv:2406.05223 equations 1 to 4: W C = U S V^T, C the covariance of the inputs, and s B A is r of the
terms of U S (V^T C^-1), the first ("ipm") or the last ("kpm"); the rest stays in the weight. From code read
for facts: C + 0.01 mean(diag C) I stands in its place. In peft C is divided by the square of an entry of the
inputs, which moves numbers between A and B and leaves their product.
"""

import torch
from torch import Tensor

from properties.oracles import eva
from properties.oracles.laws import Law, Options, Tensors, scale

DAMPED = 0.01


def eva_laws(W: Tensor, p: Tensors, options: Options, inputs: Tensor) -> list[Law]:
    """But for the signs of its rows, which the paper leaves open."""
    exact = 2 * len(p["A"]) >= inputs.shape[1]
    laws = eva.init_laws(W, None, p, options, inputs if exact else None)
    return [law for law in laws if "positive" not in law.name]


def corda_laws(W: Tensor, p: Tensors, options: Options, inputs: Tensor) -> list[Law]:
    """The product of A and B, and that B's columns are the left singular vectors."""
    C = inputs.mT @ inputs
    C = C + DAMPED * C.diagonal().mean() * torch.eye(len(C)).to(C)
    U, S, Vh = torch.linalg.svd(W @ C, full_matrices=False)
    largest, r = S[0], len(p["A"])
    chosen = slice(None, r) if options["method"] == "ipm" else slice(len(S) - r, None)
    U, S, Vh = U[:, chosen], S[chosen], Vh[chosen]
    product = (U * S) @ Vh @ torch.linalg.inv(C)
    gram = p["B"].mT @ p["B"]
    lengths = gram.diagonal().sqrt()
    # Rounding in W C moves a term by the largest of them, and C^-1 by its condition.
    size = W.norm() * torch.linalg.cond(C)
    return [
        Law("s B A is r terms of U S V^T C^-1", scale(options) * p["B"] @ p["A"], product, size),
        Law("columns of B are orthogonal", gram, gram.diagonal().diag(), lengths.max() ** 2),
        Law(
            "|B_i|^2 in the ratio of S", gram.diagonal() * S[0], S * gram[0, 0], largest * lengths.max() ** 2
        ),
    ]


LAWS = {"eva": eva_laws, "corda": corda_laws}
