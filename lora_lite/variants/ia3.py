"""(IA)³: Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning. Liu et al.
2022, arXiv:2205.05638. This is the gate on a layer's output, which the paper puts on keys and values.

    y = (x Wᵀ + b) ∘ g        g = 1 + offset

Reference: section 3.3 of the paper; peft's tuners/ia3/layer.py.
Identity at init: offset = 0, bit for bit.
First step: offset learns.
Deviations: the parameter is the offset from 1 and not the gate: bfloat16 has a spacing of 7.8e-3 at 1, so
that a gate stored there would not move under small steps. The paper gates activations after the bias, and so
does this.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from lora_lite.config import AdapterConfig
from lora_lite.linear import LinearShape
from lora_lite.spec import ParamSpec, Variant, register, zeros
from lora_lite.variants import references
from lora_lite.variants.gate import gated


@dataclass(frozen=True, kw_only=True)
class IA3Config(AdapterConfig):
    """Config of (IA)³ on outputs. It has neither rank nor alpha."""

    variant: ClassVar[str] = "ia3"
    unused: ClassVar[tuple[str, ...]] = ("r", "alpha")
    r: None = None  # type: ignore[assignment]  # refused, see `unused`
    alpha: None = None  # type: ignore[assignment]  # refused, see `unused`


@register
class IA3(Variant):
    """A gate on each output feature."""

    name = "ia3"
    config_class = IA3Config
    reference = references.IA3

    offset: Tensor

    @classmethod
    def specs(cls, shape: LinearShape, config: IA3Config) -> dict[str, ParamSpec]:
        return {"offset": ParamSpec((shape.d_out,), zeros, first_gradient="nonzero")}

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        return gated(y, self.offset)
