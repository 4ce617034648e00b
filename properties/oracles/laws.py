"""What the oracles share: the type of a law of an init, the dense linear map and a few common laws."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
Options = Mapping[str, Any]
# What a formula keeps: see judging/laws.py.
Laws = Mapping[str, Any]


@dataclass(frozen=True)
class Law:
    """``|got - wanted| <= k * eps(dtype) * magnitude`` elementwise, for a k that the caller's error model
    owns.

    ``magnitude`` is the size of the terms that went into ``got``; 0.0 laws exact equality.
    """

    name: str
    got: Tensor
    wanted: Tensor
    magnitude: Tensor | float

    def __post_init__(self) -> None:
        # A wrong shape must not hide behind broadcasting.
        if self.got.shape != self.wanted.shape:
            raise AssertionError(
                f"{self.name}: got shape {tuple(self.got.shape)}, wanted shape {tuple(self.wanted.shape)}"
            )


def linear(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor) -> Tensor:
    """``x W^T + b + e`` with the same leading dimensions on every tensor."""
    y = x @ W.mT + e
    return y if b is None else y + b.unsqueeze(-2)


def lora_scale(options: Options) -> float:
    """s = alpha / r, with the configured r (also where a layer was given another rank)."""
    return float(options["alpha"]) / float(options["r"])


def exactly(name: str, got: Tensor, wanted: Tensor) -> Law:
    """``got`` is bit for bit ``wanted``."""
    return Law(name, got, wanted, 0.0)


def is_zero(name: str, got: Tensor, shape: tuple[int, ...]) -> Law:
    """``got`` has this shape and only zeros."""
    return exactly(f"{name} = 0", got, got.new_zeros(shape))


def never(name: str, excess: Tensor, magnitude: Tensor | float = 0.0) -> Law:
    """An inequality: no entry of ``excess`` is above zero."""
    return Law(name, excess.relu(), torch.zeros_like(excess), magnitude)


def is_identity(name: str, gram: Tensor) -> Law:
    """Rows or columns are orthonormal, given their Gram matrix."""
    return Law(name, gram, torch.eye(gram.shape[-1]).to(gram), 1.0)


def kaiming(
    name: str, t: Tensor, shape: tuple[int, ...], fan_in: float, independent: int | None = None
) -> list[Law]:
    """Kaiming-uniform with a = sqrt(5): uniform in [-bound, bound], bound = 1 / sqrt(fan_in).

    ``independent`` is the number of independent draws in ``t`` (default: all entries). From 64 on, a false
    alarm of the statistical laws has probability 2^-64 and 2^-63.
    """
    bound = 1 / math.sqrt(fan_in)
    laws = [
        exactly(f"shape of {name}", t.new_tensor(t.shape), t.new_tensor(shape)),
        # The slack is for the bound itself, which is rounded in bfloat16.
        never(f"|{name}| <= 1/sqrt({fan_in:.3g})", t.abs() - bound * (1 + 2**-8)),
    ]
    if (t.numel() if independent is None else independent) >= 64:
        laws += [
            never(f"max|{name}| reaches half of 1/sqrt({fan_in:.3g})", bound / 2 - t.abs().amax()),
            never(f"{name} has both signs", torch.stack((t.amin(), -t.amax()))),
        ]
    return laws


def scale(options: Options) -> float:
    """alpha / r, or with `rs` alpha / sqrt(r), arXiv:2312.03732 section 3."""
    r = float(options["r"])
    return float(options["alpha"]) / (math.sqrt(r) if options.get("rs") else r)


def uniform(name: str, t: Tensor, shape: tuple[int, ...], bound: float) -> list[Law]:
    """As kaiming(), with its own bound."""
    return kaiming(name, t, shape, 1 / bound**2)


def he(name: str, t: Tensor, shape: tuple[int, int]) -> list[Law]:
    """Kaiming-uniform as in its paper: up to sqrt(6 / fan in)."""
    return uniform(name, t, shape, math.sqrt(6 / shape[1]))


def normal(name: str, t: Tensor, shape: tuple[int, ...], deviation: float) -> list[Law]:
    """Normal around zero. From 64 entries on the size of the sample is within a factor of two.

    A false alarm of that has probability 1e-10; from 512 on an entry is beyond what a uniform law could give
    (1e-12), and all are distinct.
    """
    laws = [exactly(f"shape of {name}", t.new_tensor(t.shape), t.new_tensor(shape))]
    if t.numel() >= 64:
        size = t.square().mean().sqrt()
        laws += [
            never(f"{name} has at least half of the deviation {deviation:.3g}", deviation / 2 - size),
            never(f"{name} has at most twice the deviation {deviation:.3g}", size - 2 * deviation),
            never(f"{name} has both signs", torch.stack((t.amin(), -t.amax()))),
        ]
    if t.numel() >= 512:
        laws.append(never(f"{name} is not uniform", 1.9 * size - t.abs().amax()))
    return laws


def is_constant(name: str, got: Tensor, shape: tuple[int, ...], value: float) -> Law:
    """``got`` has this shape, and this number everywhere, as its dtype has it."""
    return Law(f"{name} = {value:.3g}", got, got.new_full(shape, value), abs(value))


def decomposed(V: Tensor, m: Tensor, axis: int) -> Tensor:
    """m V / |V|, the norm over an axis and no constant to the gradient; a zero stays zero."""
    norms: Tensor = torch.linalg.vector_norm(V, dim=axis, keepdim=True)
    return m * V / torch.where(norms == 0, 1.0, norms)
