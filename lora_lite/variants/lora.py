"""LoRA, arXiv:2106.09685. The method: help(ll.LoRA), its settings: help(ll.LoRAConfig)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from lora_lite.config import AdapterConfig
from lora_lite.linear import LinearShape
from lora_lite.spec import ParamSpec, Variant, kaiming_uniform, register, zeros
from lora_lite.variants import references
from lora_lite.variants.low_rank import LAWS, add_low_rank


@dataclass(frozen=True, kw_only=True)
class LoRAConfig(AdapterConfig):
    """Settings of LoRA, arXiv:2106.09685, which help(ll.LoRA) describes.

    r = 8                   rank of the update: a whole number from 1 to 2²⁰, also above the layer's widths
    alpha = 16.0            the update is scaled by s = alpha / r; above 0
    dtype = torch.float32   of the adapter's tensors and computation; or torch.bfloat16, float16, float64

    target_names, exclude_names, target_roles and layers choose the layers: help(ll.AdapterConfig).
    Raises ConfigError, with the field's name, on a value out of its range.
    """

    variant: ClassVar[str] = "lora"


@register
class LoRA(Variant):
    """LoRA: Low-Rank Adaptation of Large Language Models. Hu et al. 2021, arXiv:2106.09685.

        y = x Wᵀ + b + s (x Aᵀ) Bᵀ        s = alpha / r

    A low-rank update that starts from zero. It does not read W, which may be quantised.

    Tensors:
        A  (r, d_in)   trained  starts uniform in ±1/√d_in
        B  (d_out, r)  trained  starts at 0

    Reference: section 4.1 of the paper; peft's tuners/lora/layer.py.
    Identity at init: B = 0, bit for bit.
    First step: B learns, the gradient of A is exactly zero.
    Deviations: no dropout on the adapter's input.
    """

    name = "lora"
    config_class = LoRAConfig
    reference = references.LORA
    laws: ClassVar = {**LAWS, "starts": {"A": "uniform", "B": 0}}

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
