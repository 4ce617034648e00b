"""PiSSA, arXiv:2404.02948 section 3: W' = (W - s B0 A0) + s B A, where s B0 A0 is the top-r truncated SVD of
W.
"""

import torch
from torch import Tensor

from .laws import Law, Options, Tensors, exactly, linear, lora_scale, never


def forward(
    x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Tensors, p0: Tensors, options: Options
) -> Tensor:
    """Output of the adapted layer; the subtracted copy is what A and B were at init, not the adapter's
    buffers.
    """
    residual = W - lora_scale(options) * p0["B"].detach() @ p0["A"].detach()
    return linear(x, residual + lora_scale(options) * p["B"] @ p["A"], b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options, inputs: Tensor | None) -> list[Law]:
    """A = sqrt(S/s) V^T and B = U sqrt(S/s) for some top-r SVD of W, whichever one the spectrum allows."""
    A, B, s, r = p["A"], p["B"], lora_scale(options), options["r"]
    sigma = torch.linalg.svdvals(W)
    top, factor = sigma[0], (sigma[0] / s).sqrt()  # factor: the largest norm of a row of A or column of B
    gram_A, gram_B = s * A @ A.mT, s * B.mT @ B
    laws = [exactly("A0 = A", p["A0"], A), exactly("B0 = B", p["B0"], B)]

    if options.get("niter") is None:
        # With u_i, v_i the normalised columns and rows: u and v are orthonormal, W v_i = sigma_i u_i and W^T
        # u_i = sigma_i v_i for the r largest sigma, which is the definition. No gap is needed: nothing here
        # asks which basis of a repeated singular value was taken. Where sigma_i is 0, A and B have a zero
        # there.
        S = sigma[:r]
        return [
            *laws,
            Law("s A A^T = diag(S)", gram_A, S.diag(), top),
            Law("s B^T B = diag(S)", gram_B, S.diag(), top),
            Law("W A^T = B diag(S)", W @ A.mT, B * S, top * factor),
            Law("W^T B = A^T diag(S)", W.mT @ B, A.mT * S, top * factor),
        ]
    return [*laws, *_of_a_randomised_one(W, A, B, s, sigma, options["niter"])]


def _of_a_randomised_one(W: Tensor, A: Tensor, B: Tensor, s: float, sigma: Tensor, niter: int) -> list[Law]:
    # Halko et al., arXiv:0909.4061, algorithm 5.1: an exact SVD of Q Q^T W (or of W Q Q^T, depending on the
    # shape), Q orthonormal. So the factors are balanced and orthogonal, one of the two residuals is zero, and
    # the singular values interlace with those of W from below.
    top, factor = sigma[0], (sigma[0] / s).sqrt()
    gram_A, gram_B = s * A @ A.mT, s * B.mT @ B
    S = gram_A.diagonal()
    right, left = W @ A.mT - B * S, W.mT @ B - A.mT * S
    smaller = right if right.abs().amax() <= left.abs().amax() else left
    # Q contains (W W^T)^q W z for a Gaussian z. With t the squared cosine between z and the first singular
    # vector, Jensen gives S_1^2 >= t^(1/(2q+1)) / 2 * sigma_1^2 whatever the spectrum. P(t < 2^-60) < 2^-30
    # sqrt(dimension).
    least = 2.0 ** (-60 / (2 * niter + 1)) / 2
    return [
        Law("s A A^T = diag(S) for some S", gram_A, S.diag(), top),
        Law("s B^T B = diag(S), the same S", gram_B, S.diag(), top),
        Law("W A^T = B diag(S) or W^T B = A^T diag(S)", smaller, torch.zeros_like(smaller), top * factor),
        Law("S descends", S, S.sort(descending=True).values, top),
        never("S_i <= sigma_i", S - sigma[: len(A)], top),
        never("S_1 reaches the power iteration's floor", least**0.5 * top - S.amax()),
    ]
