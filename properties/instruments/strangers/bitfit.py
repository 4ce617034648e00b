"""BitFit, arXiv:2106.10199 section 3: of a linear layer nothing but its bias is trained."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

import lora_lite as ll
from lora_lite.spec import zeros
from properties.instruments.strangers.shared import Unranked
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import is_zero, linear


@dataclass(frozen=True, kw_only=True)
class BitFitConfig(Unranked):
    """Settings of BitFit: those that choose the layers, and dtype."""

    variant: ClassVar[str] = "bitfit"


@ll.register
class BitFit(ll.Variant):
    """BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models.

        y = x Wᵀ + b + change

    Tensors:
        change  (d_out,)  trained  starts at 0

    Reference: section 3 of the paper.
    Identity at init: change = 0, bit for bit.
    First step: change learns.
    Deviations: what is trained is the change of b; a layer without a bias gets one.
    """

    name = "bitfit"
    config_class = BitFitConfig
    reference = ll.Reference(
        arxiv="2106.10199",
        titles=(
            "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models",
        ),
    )
    laws: ClassVar = {
        "linear_in": ("change",),
        "inputs": {},
        "outputs": {"change": 0},
        "apart_from_the_base": True,
    }

    change: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: BitFitConfig) -> dict[str, ll.ParamSpec]:
        return {"change": ll.ParamSpec((shape.d_out,), zeros, first_gradient="nonzero")}

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        return y + self.change


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    return linear(x, W, p["change"] if b is None else b + p["change"], e)


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    return [is_zero("change", p["change"], (len(W),))]


ORACLES["bitfit"] = Oracle(forward, init_laws, trained=frozenset({"change"}))
