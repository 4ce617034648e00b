"""LoHa, arXiv:2108.06098 (FedPara) proposition 1: W' = W + s (B₁ A₁) ∘ (B₂ A₂)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.spec import kaiming_uniform, zeros
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import is_zero, kaiming, linear, lora_scale


@dataclass(frozen=True, kw_only=True)
class LoHaConfig(ll.AdapterConfig):
    """Settings of LoHa: r and alpha, and those that choose the layers."""

    variant: ClassVar[str] = "loha"


@ll.register
class LoHa(ll.Variant):
    """LoHa: FedPara, Low-Rank Hadamard Product.

        y = x (W + s (B₁ A₁) ∘ (B₂ A₂))ᵀ + b        s = alpha / r

    Tensors:
        A1  (r, d_in)   trained  starts uniform in ±1/√d_in
        B1  (d_out, r)  trained  starts uniform in ±1/√r
        A2  (r, d_in)   trained  starts uniform in ±1/√d_in
        B2  (d_out, r)  trained  starts at 0

    Reference: proposition 1 of the paper.
    Identity at init: B₂ = 0, bit for bit.
    First step: B₂ learns.
    Deviations: uniform inits, where the paper has normal ones. An adapter in float16 computes in float32.
    """

    name = "loha"
    config_class = LoHaConfig
    reference = ll.Reference(
        arxiv="2108.06098",
        titles=("FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated Learning",),
    )

    A1: Tensor
    B1: Tensor
    A2: Tensor
    B2: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: LoHaConfig) -> dict[str, ll.ParamSpec]:
        down, up = (config.r, shape.d_in), (shape.d_out, config.r)
        return {
            "A1": ll.ParamSpec(down, kaiming_uniform, first_gradient="zero"),
            "B1": ll.ParamSpec(up, kaiming_uniform, first_gradient="zero"),
            "A2": ll.ParamSpec(down, kaiming_uniform, first_gradient="zero"),
            "B2": ll.ParamSpec(up, zeros, first_gradient="nonzero"),
        }

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        # The update's gradient is as large as W's: float16 may hold the factors' and not that.
        A1, B1, A2, B2 = (
            v.float() if v.dtype == torch.float16 else v for v in (self.A1, self.B1, self.A2, self.B2)
        )
        update = (B1 @ A1) * (B2 @ A2)
        return y + self.scale * F.linear(x.to(update.dtype), update)


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    update = (p["B1"] @ p["A1"]) * (p["B2"] @ p["A2"])
    return linear(x, W + lora_scale(options) * update, b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    (d_out, d_in), r = W.shape, options["r"]
    return [
        *kaiming("A1", p["A1"], (r, d_in), d_in),
        *kaiming("B1", p["B1"], (d_out, r), r),
        *kaiming("A2", p["A2"], (r, d_in), d_in),
        is_zero("B2", p["B2"], (d_out, r)),
    ]


ORACLES["loha"] = Oracle(forward, init_laws, trained=frozenset({"A1", "B1", "A2", "B2"}))
