"""MoRA, arXiv:2405.12130 section 3.2: a square matrix between sums of inputs and outputs that repeat."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.spec import zeros
from properties.instruments.strangers.shared import Unranked
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import is_zero, linear


@dataclass(frozen=True, kw_only=True)
class MoRAConfig(Unranked):
    """Settings of MoRA: the side of the square."""

    variant: ClassVar[str] = "mora"
    # Of one, all inputs are summed: nothing is left of what a norm has centred.
    side: int = ll.option(1, values=(1, 3), wrong=(None, 0, 2.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_whole("side", 1)


@ll.register
class MoRA(ll.Variant):
    """MoRA: High-Rank Updating for Parameter-Efficient Fine-Tuning.

        yᵢ = (x Wᵀ + b)ᵢ + (h Mᵀ)ᵢ        hⱼ = Σ of xₖ with k = j, i counted likewise, modulo side

    Tensors:
        M  (side, side)  trained  starts at 0

    Reference: section 3.2 of the paper, sharing rows and columns.
    Identity at init: M = 0, bit for bit.
    First step: M learns.
    Deviations: none.
    """

    name = "mora"
    config_class = MoRAConfig
    reference = ll.Reference(
        arxiv="2405.12130",
        titles=("MoRA: High-Rank Updating for Parameter-Efficient Fine-Tuning",),
    )

    M: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: MoRAConfig) -> dict[str, ll.ParamSpec]:
        return {"M": ll.ParamSpec((config.side, config.side), zeros, first_gradient="nonzero")}

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        side, d_in, d_out = self.config.side, self.shape.d_in, self.shape.d_out
        padded = F.pad(x.to(self.M.dtype), (0, -d_in % side))
        h = padded.reshape(*x.shape[:-1], -(-d_in // side), side).sum(-2)
        return y + F.linear(h, self.M)[..., torch.arange(d_out, device=x.device) % side]


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    """By the dense update."""
    rows, columns = (torch.arange(d) % options["side"] for d in W.shape[-2:])
    return linear(x, W + p["M"][..., rows[:, None], columns[None, :]], b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    return [is_zero("M", p["M"], (options["side"],) * 2)]


ORACLES["mora"] = Oracle(forward, init_laws, trained=frozenset({"M"}))
