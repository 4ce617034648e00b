"""C3A, arXiv:2407.19342 section 3.1, of one block: a circular convolution, by FFT, on square layers alone."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.spec import zeros
from properties.instruments.strangers.shared import Unranked
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import is_zero, linear


@dataclass(frozen=True, kw_only=True)
class CirculantConfig(Unranked):
    """Settings of the convolution: those that choose the layers, and dtype."""

    variant: ClassVar[str] = "circulant"


@ll.register
class Circulant(ll.Variant):
    """Parameter-Efficient Fine-Tuning via Circular Convolution.

        y = x Wᵀ + b + x ∗ w

    Tensors:
        w  (d_in,)  trained  starts at 0

    Reference: section 3 of the paper, with one block.
    Identity at init: w = 0, bit for bit.
    First step: w learns.
    Deviations: starts at 0, where the paper draws.
    """

    name = "circulant"
    config_class = CirculantConfig
    reference = ll.Reference(
        arxiv="2407.19342", titles=("Parameter-Efficient Fine-Tuning via Circular Convolution",)
    )

    w: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: CirculantConfig) -> dict[str, ll.ParamSpec]:
        return {"w": ll.ParamSpec((shape.d_in,), zeros, first_gradient="nonzero")}

    @classmethod
    def check(cls, shape: ll.LinearShape, config: CirculantConfig) -> None:
        if shape.d_in != shape.d_out:
            raise ll.ConfigError(f"circulant: {shape.d_in} → {shape.d_out}, wanted a square layer")

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        if not x.numel():
            return y + self.w.sum()  # torch's FFT takes no empty batch
        wide = torch.promote_types(torch.promote_types(self.w.dtype, x.dtype), torch.float32)
        spectrum = torch.fft.fft(x.to(wide)) * torch.fft.fft(self.w.to(wide))
        moved: Tensor = torch.fft.ifft(spectrum).real
        return y + moved


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    """By the circulant matrix."""
    rows, columns = (torch.arange(d) for d in W.shape[-2:])
    update = p["w"][..., (rows[:, None] - columns[None, :]) % W.shape[-1]]
    return linear(x, W + update, b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    return [is_zero("w", p["w"], (W.shape[1],))]


ORACLES["circulant"] = Oracle(forward, init_laws, trained=frozenset({"w"}))
