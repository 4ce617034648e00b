"""LoRA: Low-Rank Adaptation of Large Language Models. Hu et al. 2021, arXiv:2106.09685.

    y = x Wᵀ + b + s (x Aᵀ) Bᵀ        s = alpha / r

Reference: section 4.1 of the paper; peft's tuners/lora/layer.py.
Identity at init: B = 0, bit for bit.
First step: B learns, the gradient of A is exactly zero.
Deviations: no dropout on the adapter's input.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from lora_lite.config import AdapterConfig
from lora_lite.linear import LinearShape
from lora_lite.spec import ParamSpec, Variant, kaiming_uniform, register, zeros
from lora_lite.variants import references
from lora_lite.variants.low_rank import add_low_rank


@dataclass(frozen=True, kw_only=True)
class LoRAConfig(AdapterConfig):
    """Config of LoRA: the common fields alone."""

    variant: ClassVar[str] = "lora"


@register
class LoRA(Variant):
    """A low-rank update from zero."""

    name = "lora"
    config_class = LoRAConfig
    reference = references.LORA

    A: Tensor
    B: Tensor

    @classmethod
    def specs(cls, shape: LinearShape, config: LoRAConfig) -> dict[str, ParamSpec]:
        return {
            "A": ParamSpec((config.r, shape.d_in), kaiming_uniform, first_gradient="zero"),
            "B": ParamSpec((shape.d_out, config.r), zeros, first_gradient="nonzero"),
        }

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        return add_low_rank(y, x, self.A, self.B, self.scale)
