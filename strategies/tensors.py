"""Tensors from seeds: a fixed pool of gaussian numbers, and the families of base weights."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import prod, sqrt

import torch
from torch import Tensor

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}

# Odd, so that seeds below 2³² stay apart, and near 2³² over the golden ratio, so that they lie far apart.
SPREAD = 2654435761

# Sees the numbers of a seed and a role on their way out, and returns those to use.
Through = Callable[[str, Tensor], Tensor]

_device = torch.device("cpu")
_through: Through | None = None


def set_device(name: str) -> None:
    """Where everything is built from now on."""
    global _device
    _device = torch.device(name)
    if _device != torch.device("cpu"):
        # Not on a CPU, where it is the default already: it makes every call of torch slower.
        torch.set_default_device(_device)


def device() -> torch.device:
    """Where tensors are built."""
    return _device


@contextmanager
def drawing_through(through: Through) -> Iterator[None]:
    """Every draw of gaussian numbers inside goes through this function, under the name "gaussian <seed>
    <role> of <pool>".
    """
    global _through
    before, _through = _through, through
    try:
        yield
    finally:
        _through = before


@lru_cache(maxsize=256)
def _pool(seed: int, role: str, size: int) -> Tensor:
    # torch's generator on the CPU looks at the low 32 bits alone: both have to be in them.
    mixed = zlib.crc32(role.encode()) ^ seed * SPREAD % 2**32
    generator = torch.Generator("cpu").manual_seed(mixed)
    return torch.randn(size, generator=generator, device="cpu")


def gaussian(seed: int, role: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers (*shape): the same for a seed and a role, and a prefix of one pool whatever the
    shape.

    Slicing a pool keeps most values in place when shrinking changes a dimension; torch.randn(n, generator=g)
    does not. Drawn in float32 and cast, so that a recipe means the same numbers in every dtype.
    """
    size = prod(shape)
    pool = _pool(seed, role, 1024 if size <= 1024 else 1 << (size - 1).bit_length())
    numbers: Tensor = pool[:size]
    if _through is not None:
        numbers = _through(f"gaussian {seed} {role} of {len(pool)}", numbers)
    return numbers.reshape(shape).to(device=_device, dtype=dtype, copy=True)


def _scaled_gaussian(seed: int, d_out: int, d_in: int) -> Tensor:
    return gaussian(seed, "weight", (d_out, d_in)) / sqrt(d_in)


def _factors(seed: int, d_out: int, d_in: int, spectrum: Callable[[int], Tensor]) -> Tensor:
    k = min(d_out, d_in)
    left: Tensor
    right: Tensor
    left, _ = torch.linalg.qr(gaussian(seed, "left", (d_out, k)))
    right, _ = torch.linalg.qr(gaussian(seed, "right", (d_in, k)))
    return (left * spectrum(k).to(left)) @ right.mT


def _low_rank(seed: int, d_out: int, d_in: int) -> Tensor:
    return _factors(seed, d_out, d_in, lambda k: (torch.arange(k) < max(1, k // 2)).float())


def _repeated_singular_values(seed: int, d_out: int, d_in: int) -> Tensor:
    return _factors(seed, d_out, d_in, lambda k: torch.where(torch.arange(k) < (k + 1) // 2, 2.0, 0.5))


def _orthogonal(seed: int, d_out: int, d_in: int) -> Tensor:
    return _factors(seed, d_out, d_in, torch.ones)


def _zero_rows(seed: int, d_out: int, d_in: int) -> Tensor:
    i = torch.arange(d_out, device=_device)
    zero = (i % 2 == 0) & (i < d_out - 1)  # never the last row: W is not all zero
    return _scaled_gaussian(seed, d_out, d_in) * ~zero[:, None]


def _zero_columns(seed: int, d_out: int, d_in: int) -> Tensor:
    return _zero_rows(seed, d_in, d_out).mT.contiguous()


def _outlier_column(seed: int, d_out: int, d_in: int) -> Tensor:
    return _scaled_gaussian(seed, d_out, d_in) * torch.where(
        torch.arange(d_in, device=_device) == 0, 64.0, 1.0
    )


def _uneven(seed: int, d_out: int, d_in: int) -> Tensor:
    """Rows and columns of very different norms, which a transposed norm confuses."""
    rows = 4.0 ** -torch.arange(d_out, device=_device).clamp(max=4)
    columns = 2.0 ** -torch.arange(d_in, device=_device).clamp(max=4)
    return _scaled_gaussian(seed, d_out, d_in) * rows[:, None] * columns


# Simplest first: shrinking ends there.
_FAMILIES: dict[str, Callable[[int, int, int], Tensor]] = {
    "gaussian": _scaled_gaussian,
    "uneven": _uneven,
    "low_rank": _low_rank,
    "repeated_singular_values": _repeated_singular_values,
    "orthogonal": _orthogonal,
    "zero_rows": _zero_rows,
    "zero_columns": _zero_columns,
    "outlier_column": _outlier_column,
    "tiny": lambda seed, d_out, d_in: _scaled_gaussian(seed, d_out, d_in) / 256,
    "huge": lambda seed, d_out, d_in: _scaled_gaussian(seed, d_out, d_in) * 64,
    "vast": lambda seed, d_out, d_in: _scaled_gaussian(seed, d_out, d_in) * 512,
}
# Of vast numbers two layers in a row overflow float16: only who asks for them gets them.
WEIGHT_FAMILIES = tuple(family for family in _FAMILIES if family != "vast")


def weight(family: str, seed: int, d_out: int, d_in: int, dtype: torch.dtype) -> Tensor:
    """A base weight (d_out, d_in) of one of the WEIGHT_FAMILIES, or vast."""
    return _FAMILIES[family](seed, d_out, d_in).to(dtype)
