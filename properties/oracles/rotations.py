"""What oracles of orthogonal finetuning share: skew matrices, the Cayley map, blocks along a diagonal."""

import torch
from torch import Tensor


def skew(q: Tensor, size: int) -> Tensor:
    """(n, size (size - 1) / 2) -> (n, size, size): entries above the diagonal, row by row; Q^T = -Q."""
    rows, columns = torch.triu_indices(size, size, offset=1)
    Q = q.new_zeros(len(q), size, size)
    Q[:, rows, columns] = q
    return Q - Q.mT


def cayley(Q: Tensor) -> Tensor:
    """R = (I + Q) (I - Q)^-1, arXiv:2306.07280 section 3.3; of -Q it is the inverse of that."""
    eye = torch.eye(Q.shape[-1]).to(Q)
    R: Tensor = (eye + Q) @ torch.linalg.inv(eye - Q)
    return R


def neumann(Q: Tensor, terms: int) -> Tensor:
    """The same with (I - Q)^-1 cut short, arXiv:2506.19847: powers of Q below `terms` are left of it."""
    eye = torch.eye(Q.shape[-1]).to(Q)
    inverse, power = torch.zeros_like(Q), eye.expand_as(Q)
    for _ in range(terms - 1):
        inverse, power = inverse + power, power @ Q
    return (eye + Q) @ inverse if terms > 1 else eye.expand_as(Q)


def blocks(R: Tensor) -> Tensor:
    """(n, b, b) -> (n b, n b)."""
    n, b = R.shape[:2]
    whole = R.new_zeros(n, b, n, b)
    whole[range(n), :, range(n)] = R
    return whole.reshape(n * b, n * b)
