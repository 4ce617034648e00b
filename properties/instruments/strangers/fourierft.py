"""FourierFT, arXiv:2405.03003 equations 2 to 4: W' = W + s Re(F⁻¹(a spectrum with n entries that learn))."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.spec import zeros
from properties.instruments.strangers.shared import Unranked, positions
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import is_zero, linear


@dataclass(frozen=True, kw_only=True)
class FourierFTConfig(Unranked):
    """Settings of FourierFT: the number of entries, their factor, and the seed of their places."""

    variant: ClassVar[str] = "fourierft"
    n: int = ll.option(3, values=(3, 1), wrong=(None, 0, 1.5))
    factor: float = ll.option(8.0, values=(8.0, 1.5), wrong=(None, 0.0, -1.0))
    seed: int = ll.option(777, values=(777, 0), wrong=(None, -1, 0.5))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_whole("n", 1)
        self.require_whole("seed", 0)
        self.require(isinstance(self.factor, float) and self.factor > 0, "factor", "a number above 0")


@ll.register
class FourierFT(ll.Variant):
    """FourierFT: Parameter-Efficient Fine-Tuning with Discrete Fourier Transform.

        y = x (W + s Re(F⁻¹(S)))ᵀ + b        S holds c at places drawn from the seed, and 0

    Tensors:
        c  (n,)  trained  starts at 0

    Reference: section 3 of the paper.
    Identity at init: c = 0, bit for bit.
    First step: c learns.
    Deviations: starts at 0, where the paper draws from a normal distribution and is no identity.
    """

    name = "fourierft"
    config_class = FourierFTConfig
    reference = ll.Reference(
        arxiv="2405.03003",
        titles=("Parameter-Efficient Fine-Tuning with Discrete Fourier Transform",),
    )

    c: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: FourierFTConfig) -> dict[str, ll.ParamSpec]:
        return {"c": ll.ParamSpec((config.n,), zeros, first_gradient="nonzero")}

    @classmethod
    def check(cls, shape: ll.LinearShape, config: FourierFTConfig) -> None:
        if config.n > shape.d_in * shape.d_out:
            raise ll.ConfigError(f"fourierft: {shape}, wanted at least n = {config.n} entries")

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        size = (self.shape.d_out, self.shape.d_in)
        places = positions(self.config.seed, self.config.n, size).to(x.device)
        c = self.c.to(torch.promote_types(self.c.dtype, torch.float32))
        spectrum = c.new_zeros(size[0] * size[1]).index_put((places,), c).view(size)
        update = self.config.factor * torch.fft.ifft2(spectrum).real
        return y + F.linear(x.to(update.dtype), update)


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    """By the sum of cosines."""
    d_out, d_in = W.shape[-2:]
    update = 0
    for i, place in enumerate(positions(options["seed"], options["n"], (d_out, d_in)).tolist()):
        row, column = divmod(place, d_in)
        down, along = (torch.arange(d, dtype=torch.float64) / d for d in (d_out, d_in))
        wave = torch.cos(2 * torch.pi * (row * down[:, None] + column * along)).to(W)
        update = update + p["c"][..., i, None, None] * wave
    return linear(x, W + options["factor"] / (d_in * d_out) * update, b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    return [is_zero("c", p["c"], (options["n"],))]


ORACLES["fourierft"] = Oracle(forward, init_laws, trained=frozenset({"c"}))
