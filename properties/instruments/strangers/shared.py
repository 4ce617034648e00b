"""What several of the strangers need: settings without rank, the Cayley transform, positions from a seed."""

import random
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import lora_lite as ll


@dataclass(frozen=True, kw_only=True)
class Unranked(ll.AdapterConfig):
    """Settings of a variant that has neither r nor alpha."""

    unused: ClassVar[tuple[str, ...]] = ("r", "alpha")
    r: None = None  # type: ignore[assignment]  # it has none
    alpha: None = None  # type: ignore[assignment]  # it has none

    def require_whole(self, name: str, least: int) -> None:
        """Raise ConfigError where the field is no whole number, or a smaller one."""
        value = getattr(self, name)
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        self.require(whole, name, f"a whole number, {least} or more")


def cayley(q: Tensor, size: int) -> Tensor:
    """(..., size, size): (I + Q)(I − Q)⁻¹, Q skew and with q above its diagonal."""
    Q = skew(q, size)
    eye = torch.eye(size, dtype=q.dtype, device=q.device)
    R: Tensor = torch.linalg.solve(eye - Q, eye + Q)
    return R


def skew(q: Tensor, size: int) -> Tensor:
    """(..., size, size)."""
    Q: Tensor = q.new_zeros(*q.shape[:-1], size, size)
    rows, columns = torch.triu_indices(size, size, 1)
    Q[..., rows, columns] = q
    return Q - Q.mT


def positions(seed: int, count: int, shape: tuple[int, int]) -> Tensor:
    """(count,) different places in a flat matrix of this shape, the same for a seed."""
    return torch.tensor(random.Random(seed).sample(range(shape[0] * shape[1]), count))
