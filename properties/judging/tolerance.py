"""The one error model: how far rounding alone may move a result.

Rounding an intermediate result is, to first order, the same as changing the inputs that flow into it by about
one unit roundoff: entry by entry, or a whole row or column together where they meet in one sum. So the
float64 oracle is evaluated on PROBES copies of the case whose tensors are changed at random by that much
(each by the roundoff of the dtype that it is stored or used in), and the base's own output likewise, all
copies in one batched call. How far the copies' results scatter is how much of the dtype's eps the magnitudes
of this very case let through, cancellation and conditioning included, for outputs and for gradients alike.

bound = SAFETY × scatter + one rounding of the result itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

PROBES = 12
# A computed result is a chain of a dozen roundings where a probe has one. Every audit measures whether it
# fits: the noise of correct code and the signal of mutants, as shares of the bound.
SAFETY = 64.0
# Claims about an init state their own magnitude; an SVD of a small matrix is off by up to 60 eps of it
# (measured).
CLAIM_SAFETY = 128.0


@dataclass(frozen=True)
class Bounded:
    """A float64 value and how far rounding may move it, entry by entry."""

    value: Tensor
    error: Tensor


def unit_roundoff(dtype: torch.dtype) -> float:
    """Half the spacing of numbers at 1."""
    return torch.finfo(dtype).eps / 2


@lru_cache
def least_rounding(dtype: torch.dtype) -> float:
    """Half the spacing of the smallest numbers."""
    return torch.finfo(dtype).smallest_normal * unit_roundoff(dtype)


def coarser(a: torch.dtype, b: torch.dtype) -> torch.dtype:
    """The dtype with the larger unit roundoff."""
    return a if unit_roundoff(a) >= unit_roundoff(b) else b


@lru_cache(maxsize=4096)
def _noise(name: str, shape: tuple[int, ...], probes: int) -> Tensor:
    """(1 + probes, *shape): zero for the copy that stays exact, then entry, row and column noise of standard
    deviation 1.
    """
    generator = torch.Generator("cpu").manual_seed(sum(map(ord, name)) + 7919 * len(shape))
    total = torch.zeros(1 + probes, *shape, dtype=torch.float64, device="cpu")
    patterns = [shape] + [
        tuple(n if i == axis else 1 for i, n in enumerate(shape)) for axis in range(len(shape))
    ]
    for pattern in patterns if len(shape) > 1 else patterns[:1]:
        total[1:] += torch.randn(probes, *pattern, generator=generator, dtype=torch.float64, device="cpu")
    return total


def perturbed(
    name: str,
    tensor: Tensor,
    dtype: torch.dtype,
    probes: int = PROBES,
    *,
    through: torch.dtype | None = None,
    normwise: bool = False,
) -> Tensor:
    """(1 + probes, *shape) float64: the tensor itself, then copies off by about one rounding in `dtype`.

    Below the smallest normal number the spacing is constant, and float16 gets there with ordinary numbers;
    `through`: another dtype that the numbers pass through, whose smallest spacing counts. normwise: every
    entry is off by a roundoff of the whole tensor's size as well, as where rows are normalised, rotated or
    multiplied with each other.
    """
    made = Perturbed(name, tensor, dtype, probes, through=through, normwise=normwise)
    return made.exact + made.size * made.noise


class Perturbed:
    """The same by index, of which each copy (*shape) is made when it is asked for: all of a large tensor take
    long to write.
    """

    def __init__(
        self,
        name: str,
        tensor: Tensor,
        dtype: torch.dtype,
        probes: int = PROBES,
        *,
        through: torch.dtype | None = None,
        normwise: bool = False,
    ) -> None:
        self.exact = exact = tensor.detach().double()
        least = max(least_rounding(dtype), least_rounding(through or dtype))
        size = exact.abs()
        if normwise:
            size = size + exact.square().mean().sqrt()
        self.size = torch.where(exact == 0, 0.0, size * unit_roundoff(dtype) + least)
        self.noise = _noise(name, tuple(exact.shape), probes).to(exact.device)

    def __getitem__(self, index: int) -> Tensor:
        return self.exact + self.size * self.noise[index]


def perturbed_all(
    prefix: str, tensors: Mapping[str, Tensor], dtype: torch.dtype, probes: int = PROBES
) -> dict[str, Tensor]:
    """perturbed() for each tensor by name; another prefix gives independent noise."""
    return {
        name: perturbed(prefix + name, tensor, dtype, probes, normwise=tensor.ndim > 1)
        for name, tensor in tensors.items()
    }


def finite(tensors: Iterable[Tensor | None]) -> bool:
    """Whether every entry of every tensor is a number."""
    return all(tensor is None or bool(torch.isfinite(tensor).all()) for tensor in tensors)


def scatter(
    results: Tensor, dtype: torch.dtype, *, normwise: bool = False, overflowed: bool = False
) -> Bounded:
    """The bound from an exact result and its probes (1 + probes, ...), stored in `dtype`.

    normwise: an entry may be off by as much as the tensor's entries usually scatter. A gradient through a
    normalisation, g − v ⟨v, g⟩, may cancel to an entry far smaller than any number that flowed into it.
    overflowed: the input holds an Inf or NaN already, as an earlier layer left it: NaN may come of it.
    Without that, a NaN has no bound (NaN), and nothing agrees with it.
    """
    exact = results[0]
    spread = (results[1:] - exact).square().mean(0)
    if normwise:
        spread = spread + spread.mean()
    error = SAFETY * spread.sqrt() + rounding(exact, dtype)
    # What the dtype cannot hold may come out as anything, and so may what is computed from it further on.
    largest = torch.finfo(dtype).max
    held = (
        exact.abs() + error <= largest
        if overflowed
        else ~(exact.isfinite() & (exact.abs() + error > largest))
    )
    return Bounded(exact, torch.where(held, error, torch.inf))


def rounding(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Storing `value` in `dtype`."""
    return value.abs() * torch.finfo(dtype).eps + 2 * least_rounding(dtype)


def handed_over(value: Tensor, terms: Tensor, *dtypes: torch.dtype) -> Tensor:
    """How far a sum may be off that is taken in the first dtype and then stored in the others.

    terms: the magnitudes of its terms added up. Inf where one of the dtypes cannot hold it, and where it is
    no number.
    """
    error = rounding(terms, dtypes[0])
    largest = min(torch.finfo(dtype).max for dtype in dtypes)
    return error.masked_fill(~(value.abs() + error <= largest), torch.inf)


def claim_bound(magnitude: Tensor | float, dtype: torch.dtype) -> Tensor | float:
    """How far rounding in `dtype` may take a claim whose terms have this magnitude; 0 claims equality.

    What is smaller than any normal number is stored to the smallest spacing, and not to a share of itself;
    where such numbers were multiplied before, the caller says how often.
    """
    if not isinstance(magnitude, Tensor):
        return float(claim_bound(torch.tensor(magnitude, dtype=torch.float64), dtype))
    error = CLAIM_SAFETY * torch.finfo(dtype).eps * magnitude + 2 * least_rounding(dtype)
    return torch.where(magnitude == 0, 0.0, error)
