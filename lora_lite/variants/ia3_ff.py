"""IA3FF, arXiv:2205.05638. The method: help(ll.IA3FF), its settings: help(ll.IA3FFConfig)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lora_lite.config import AdapterConfig
from lora_lite.linear import LinearShape
from lora_lite.spec import ParamSpec, Variant, register, zeros
from lora_lite.variants import references
from lora_lite.variants.gate import gated


@dataclass(frozen=True, kw_only=True)
class IA3FFConfig(AdapterConfig):
    """Settings of (IA)³ on inputs, arXiv:2205.05638, which help(ll.IA3FF) describes.

    dtype = torch.float32   of the adapter's tensors and computation; or torch.bfloat16, float16, float64

    It has neither r nor alpha: anything but None is refused.
    target_names, exclude_names, target_roles and layers choose the layers: help(ll.AdapterConfig).
    The paper gates what the feed-forward block's second layer takes: target_names=("down_proj",), or as the
    model calls it.
    Raises ConfigError, with the field's name, on a value out of its range.
    """

    variant: ClassVar[str] = "ia3_ff"
    unused: ClassVar[tuple[str, ...]] = ("r", "alpha")
    r: None = None  # type: ignore[assignment]  # refused, see `unused`
    alpha: None = None  # type: ignore[assignment]  # refused, see `unused`


@register
class IA3FF(Variant):
    """(IA)³: Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning.
    Liu et al. 2022, arXiv:2205.05638. The gate on a layer's input, which the paper puts before the down
    projection of the feed-forward block.

        y = (x ∘ g) Wᵀ + b        g = 1 + offset

    It does not read W, which may be quantised. ll.IA3 is the gate on a layer's output.

    Tensors:
        offset  (d_in,)  trained  starts at 0

    Reference: section 3.3 of the paper; peft's tuners/ia3/layer.py with is_feedforward.
    Identity at init: offset = 0, bit for bit.
    First step: offset learns.
    Deviations: the parameter is the offset from 1 and not the gate, as in ia3.
    """

    name = "ia3_ff"
    config_class = IA3FFConfig
    reference = references.IA3
    laws: ClassVar = {
        "trains": ("offset",),
        "linear_in": ("offset",),
        "inputs": {"offset": 0},
        "outputs": {},
        "starts": {"offset": 0},
    }

    offset: Tensor

    @classmethod
    def specs(cls, shape: LinearShape, config: IA3FFConfig) -> dict[str, ParamSpec]:
        return {"offset": ParamSpec((shape.d_in,), zeros, first_gradient="nonzero")}

    def adapt_input(self, x: Tensor) -> Tensor:
        return gated(x, self.offset)
