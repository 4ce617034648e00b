"""SSF, arXiv:2210.08823 equation 3: what a layer gives is scaled by γ and shifted by β."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.spec import zeros
from properties.instruments.strangers.shared import Unranked
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import exactly, is_zero, linear


@dataclass(frozen=True, kw_only=True)
class SSFConfig(Unranked):
    """Settings of SSF: those that choose the layers, and dtype."""

    variant: ClassVar[str] = "ssf"


@ll.register
class SSF(ll.Variant):
    """Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning.

        y = γ ∘ (x Wᵀ + b) + β

    Tensors:
        gamma  (d_out,)  trained  starts at 1
        beta   (d_out,)  trained  starts at 0

    Reference: section 3.2 of the paper.
    Identity at init: γ = 1 and β = 0, bit for bit.
    First step: both learn.
    Deviations: starts at γ = 1 exactly, where the paper draws around it.
    """

    name = "ssf"
    config_class = SSFConfig
    reference = ll.Reference(
        arxiv="2210.08823",
        titles=("Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning",),
    )

    deviations = (
        ll.Deviation(
            "every_entry_moves_in_every_dtype",
            "γ starts at 1, as in the paper, and numbers near 1 are 2⁻⁷ apart in bfloat16: steps of 1e-3 move"
            " none of them. Train it in float32",
            lambda config: config.dtype == torch.bfloat16,
        ),
    )

    gamma: Tensor
    beta: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: SSFConfig) -> dict[str, ll.ParamSpec]:
        return {
            "gamma": ll.ParamSpec((shape.d_out,), nn.init.ones_, first_gradient="nonzero"),
            "beta": ll.ParamSpec((shape.d_out,), zeros, first_gradient="nonzero"),
        }

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        return self.gamma * y + self.beta


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    y: Tensor = p["gamma"].unsqueeze(-2) * linear(x, W, b, e) + p["beta"].unsqueeze(-2)
    return y


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    gamma, shape = p["gamma"], (len(W),)
    return [exactly("gamma = 1", gamma, torch.ones(shape).to(gamma)), is_zero("beta", p["beta"], shape)]


ORACLES["ssf"] = Oracle(forward, init_laws, trained=frozenset({"gamma", "beta"}))
