"""EVA, arXiv:2410.07170 section 3.2: LoRA with A = the top principal directions of the layer's inputs."""

import torch
from torch import Tensor

from . import lora
from .laws import Law, Options, Tensors, is_identity, is_zero, never

forward = lora.forward


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options, inputs: Tensor | None) -> list[Law]:
    """Orthonormal rows that are eigenvectors of the inputs' covariance for its largest eigenvalues; B is
    zero.

    The rank is A's own: redistribution may have changed it from the configured one.
    """
    A = p["A"]
    r = len(A)
    peak = A.abs().amax(-1)
    laws = [
        is_zero("B", p["B"], (W.shape[0], r)),
        is_identity("A A^T = I", A @ A.mT),
        # Where the two largest entries tie with opposite signs, either may count as the largest.
        never("the largest entry of each row is positive", peak - A.amax(-1), peak),
    ]
    if inputs is None:
        return laws
    mean = inputs.mean(0)
    centred = inputs - mean
    C = centred.mT @ centred / len(inputs)
    eigenvalues = torch.linalg.eigvalsh(C).flip(0).clamp(min=0)
    largest = eigenvalues[0]
    # Centring rounds at the size of the mean; a covariance that cancels at the size of its square is a bug.
    magnitude = largest + torch.linalg.vector_norm(mean) * largest.sqrt()
    return [
        *laws,
        Law("C A^T = A^T diag(top eigenvalues)", C @ A.mT, A.mT * eigenvalues[:r], magnitude),
        Law("A C A^T = diag(top eigenvalues)", A @ C @ A.mT, eigenvalues[:r].diag(), magnitude),
    ]
