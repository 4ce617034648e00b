"""LoKr, arXiv:2309.14859 section 3.2: W' = W + s C ⊗ (B A)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.spec import kaiming_uniform, zeros
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import is_zero, kaiming, linear, lora_scale


@dataclass(frozen=True, kw_only=True)
class LoKrConfig(ll.AdapterConfig):
    """Settings of LoKr: r, alpha, and the width of C."""

    variant: ClassVar[str] = "lokr"
    factor: int = ll.option(2, values=(2, 4), wrong=(None, 0, 2.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(isinstance(self.factor, int) and self.factor >= 1, "factor", "a whole number above 0")


@ll.register
class LoKr(ll.Variant):
    """LoKr: Navigating Text-To-Image Customization, From LyCORIS Fine-Tuning to Model Evaluation.

        y = x (W + s C ⊗ (B A))ᵀ + b        s = alpha / r

    Tensors:
        C  (factor, factor)     trained  starts uniform in ±1/√factor
        A  (r, d_in / factor)   trained  starts uniform in ±1/√(d_in / factor)
        B  (d_out / factor, r)  trained  starts at 0

    Reference: section 3.2 of the paper.
    Identity at init: B = 0, bit for bit.
    First step: B learns.
    Deviations: none.
    """

    name = "lokr"
    config_class = LoKrConfig
    reference = ll.Reference(
        arxiv="2309.14859",
        titles=("Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation",),
    )

    C: Tensor
    A: Tensor
    B: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: LoKrConfig) -> dict[str, ll.ParamSpec]:
        d_in, d_out = shape.d_in // config.factor, shape.d_out // config.factor
        return {
            "C": ll.ParamSpec((config.factor, config.factor), kaiming_uniform, first_gradient="zero"),
            "A": ll.ParamSpec((config.r, d_in), kaiming_uniform, first_gradient="zero"),
            "B": ll.ParamSpec((d_out, config.r), zeros, first_gradient="nonzero"),
        }

    @classmethod
    def check(cls, shape: ll.LinearShape, config: LoKrConfig) -> None:
        if shape.d_in % config.factor or shape.d_out % config.factor:
            raise ll.ConfigError(f"lokr: {shape}, wanted multiples of factor = {config.factor}")

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        h = x.to(self.A.dtype).reshape(*x.shape[:-1], self.config.factor, self.A.shape[1])
        update = (self.C @ (h @ self.A.mT @ self.B.mT)).flatten(-2)
        return y + float(self.scale) * update


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    C, M = p["C"], p["B"] @ p["A"]
    update = torch.einsum("...ij,...kl->...ikjl", C, M).flatten(-2).flatten(-3, -2)
    return linear(x, W + lora_scale(options) * update, b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    f, r = options["factor"], options["r"]
    d_out, d_in = (size // f for size in W.shape)
    return [
        *kaiming("C", p["C"], (f, f), f),
        *kaiming("A", p["A"], (r, d_in), d_in),
        is_zero("B", p["B"], (d_out, r)),
    ]


ORACLES["lokr"] = Oracle(forward, init_laws, trained=frozenset({"C", "A", "B"}))
