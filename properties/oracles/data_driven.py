"""What an init from data leaves, given the weight W and the inputs (tokens, d_in) that the layer was given.

EVA, arXiv:2410.07170 section 3.2: A is the top right singular vectors of the centred inputs, B is zero. peft
takes them from a randomised SVD of twice as many directions, which is exact where these are all there are.

CorDA, arXiv:2406.05223 equations 1 to 4: W C = U S V^T, C the covariance of the inputs, and s B A is r of the
terms of U S (V^T C^-1), the first ("ipm") or the last ("kpm"); the rest stays in the weight. From code read
for facts: C + 0.01 mean(diag C) I stands in its place. In peft C is divided by the square of an entry of the
inputs, which moves numbers between A and B and leaves their product.

LoftQ, arXiv:2310.08659 algorithm 1 with one step: Q, what the weight is in four or eight bits, takes its
place, and B A is the nearest to W - Q of its rank, balanced: roots of the singular values in A and in B. The
levels of four bits are NormalFloat's, arXiv:2305.14314 appendix E, times the largest entry of each 64 in a
row; of eight, by the code of bitsandbytes, 127ths of the largest in each row, all of it in half precision
before. What is added is s B A, and should make up for what is lost.
"""

import torch
from torch import Tensor

from properties.oracles import eva
from properties.oracles.laws import Law, Options, Tensors, never, scale

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


# NormalFloat: quantiles of the normal distribution, of which one is zero.
LEVELS = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
    *(0.7229568362236023, 1.0),
)
BLOCK = 64


def _lost(W: Tensor, Q: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """How far each entry is from Q, and from the nearest that so many bits can hold."""
    if bits == 8:
        W = W.half().double()
        step = W.abs().amax(1, keepdim=True) / 127
        return (W - Q).abs(), (W - step * (W / step).round()).abs()
    lost = []
    for block in torch.split(W.flatten(), BLOCK):
        held = block.abs().amax() * torch.tensor(LEVELS).to(W)
        lost.append((block[:, None] - held).abs().amin(1))
    return (W - Q).abs(), torch.cat(lost).view_as(W)


def loftq_laws(W: Tensor, p: Tensors, options: Options, inputs: Tensor) -> list[Law]:
    """Q is what is now in the weight's place."""
    A, B, rest = p["A"], p["B"], W - p["Q"]
    S, r, size = torch.linalg.svdvals(rest), len(p["A"]), W.norm()
    beyond = (rest - scale(options) * B @ A).norm() - rest.norm()
    return [
        Law("Q is the nearest to W", *_lost(W, p["Q"], options["bits"]), W.abs().amax()),
        Law("B A leaves of W - Q what no other of its rank does", (rest - B @ A).norm(), S[r:].norm(), size),
        Law("A A^T is diagonal", A @ A.mT, (A @ A.mT).diagonal().diag(), size),
        Law("B^T B = A A^T", B.mT @ B, A @ A.mT, size),
        never("Q + s B A is further from W than Q", beyond, size),
    ]


LAWS = {"eva": eva_laws, "corda": corda_laws, "loftq": loftq_laws}
