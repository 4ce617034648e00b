"""Full fine-tuning as an adapter: a copy of the weight, all of which learns."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.linear import read_bias, read_weight
from properties.instruments.strangers.shared import Unranked
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import linear


@dataclass(frozen=True, kw_only=True)
class FullCopyConfig(Unranked):
    """Settings of the copy: those that choose the layers, and dtype."""

    variant: ClassVar[str] = "full_copy"


@ll.register
class FullCopy(ll.Variant):
    """A full-rank copy of the weight, which takes its place.

        y = x Cᵀ + b

    Tensors:
        copy  (d_out, d_in)  trained  starts at W

    Reference: none but full fine-tuning itself.
    Identity at init: C = W, to rounding.
    First step: C learns.
    Deviations: none.
    """

    name = "full_copy"
    config_class = FullCopyConfig
    reads_weight = True

    copy: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: FullCopyConfig) -> dict[str, ll.ParamSpec]:
        return {"copy": ll.ParamSpec((shape.d_out, shape.d_in), first_gradient="nonzero")}

    @classmethod
    def identity(cls, config: FullCopyConfig) -> Literal["exact", "rounding"]:
        return "rounding"

    def initialise(self, layer: nn.Module, statistics: Any) -> None:
        self.copy.copy_(read_weight(layer))

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        wide = torch.promote_types(self.copy.dtype, y.dtype)
        bias = read_bias(layer)
        return F.linear(x.to(wide), self.copy.to(wide), None if bias is None else bias.to(wide))


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    """The base's own output is not made use of, nor is its error e."""
    return linear(x, p["copy"], b, torch.zeros_like(e))


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    return [Law("C = W", p["copy"], W, W.abs())]


ORACLES["full_copy"] = Oracle(forward, init_laws, trained=frozenset({"copy"}))
