"""RandLoRA, arXiv:2502.00987 equation 3: a full-rank update, Σⱼ Bⱼ Λⱼ A Γⱼ, from random frozen bases."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.spec import kaiming_uniform, zeros
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import is_zero, kaiming, linear, lora_scale


@dataclass(frozen=True, kw_only=True)
class RandLoRAConfig(ll.AdapterConfig):
    """Settings of RandLoRA: r and alpha, and those that choose the layers."""

    variant: ClassVar[str] = "randlora"


@ll.register
class RandLoRA(ll.Variant):
    """RandLoRA: Full-rank parameter-efficient fine-tuning of large models.

        y = x Wᵀ + b + s Σⱼ ((x ∘ γⱼ) Aᵀ ∘ λⱼ) Bⱼᵀ        s = alpha / r, as many j as reach full rank

    Tensors:
        A        (r, d_in)         frozen   starts uniform in ±1/√d_in
        B        (n, d_out, r)     frozen   starts uniform in ±1/√r
        lambda_  (n, r)            trained  starts at 0
        gamma    (n, d_in)         trained  starts at 1 / max(d_in, d_out)

    Reference: section 4 of the paper.
    Identity at init: λ = 0, bit for bit.
    First step: λ learns.
    Deviations: the bases are drawn for each layer, and not shared.
    """

    name = "randlora"
    config_class = RandLoRAConfig
    reference = ll.Reference(
        arxiv="2502.00987",
        titles=("RandLoRA: Full-rank parameter-efficient fine-tuning of large models",),
    )

    A: Tensor
    B: Tensor
    lambda_: Tensor
    gamma: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: RandLoRAConfig) -> dict[str, ll.ParamSpec]:
        n = -(-min(shape.d_in, shape.d_out) // config.r)
        start = 1 / max(shape.d_in, shape.d_out)
        return {
            "A": ll.ParamSpec((config.r, shape.d_in)),
            "B": ll.ParamSpec((n, shape.d_out, config.r)),
            "lambda_": ll.ParamSpec((n, config.r), zeros, first_gradient="nonzero"),
            "gamma": ll.ParamSpec((n, shape.d_in), lambda gamma: gamma.fill_(start), first_gradient="zero"),
        }

    def initialise(self, layer: nn.Module, statistics: Any) -> None:
        kaiming_uniform(self.A)
        for base in self.B:
            kaiming_uniform(base)

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        x = x.to(self.A.dtype).unsqueeze(-2)
        h = (x * self.gamma) @ self.A.mT * self.lambda_
        return y + self.scale * torch.einsum("...nr,nor->...o", h, self.B)


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    right = p["lambda_"].unsqueeze(-1) * p["A"].unsqueeze(-3) * p["gamma"].unsqueeze(-2)
    return linear(x, W + lora_scale(options) * (p["B"] @ right).sum(-3), b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    (d_out, d_in), r = W.shape, options["r"]
    n, start = -(-min(d_out, d_in) // r), 1 / max(d_out, d_in)
    return [
        *kaiming("A", p["A"], (r, d_in), d_in),
        *kaiming("B", p["B"], (n, d_out, r), r),
        is_zero("lambda", p["lambda_"], (n, r)),
        Law("gamma = 1 / max(d_in, d_out)", p["gamma"], W.new_full((n, d_in), start), start),
    ]


ORACLES["randlora"] = Oracle(forward, init_laws, trained=frozenset({"lambda_", "gamma"}))
