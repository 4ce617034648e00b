"""IA3, arXiv:2205.05638. The method: help(ll.IA3), its settings: help(ll.IA3Config)."""

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
    """Settings of (IA)³ on outputs, arXiv:2205.05638, which help(ll.IA3) describes.

    dtype = torch.float32   of the adapter's tensors and computation; or torch.bfloat16, float16, float64

    It has neither r nor alpha: anything but None is refused.
    target_names, exclude_names, target_roles and layers choose the layers: help(ll.AdapterConfig).
    The paper gates keys and values: target_names=("k_proj", "v_proj"), or as the model calls them.
    Raises ConfigError, with the field's name, on a value out of its range.
    """

    variant: ClassVar[str] = "ia3"
    unused: ClassVar[tuple[str, ...]] = ("r", "alpha")
    r: None = None  # type: ignore[assignment]  # refused, see `unused`
    alpha: None = None  # type: ignore[assignment]  # refused, see `unused`


@register
class IA3(Variant):
    """(IA)³: Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning.
    Liu et al. 2022, arXiv:2205.05638. The gate on a layer's output, which the paper puts on keys and values.

        y = (x Wᵀ + b) ∘ g        g = 1 + offset

    It does not read W, which may be quantised. ll.IA3FF is the gate on a layer's input.

    Tensors:
        offset  (d_out,)  trained  starts at 0

    Reference: section 3.3 of the paper; peft's tuners/ia3/layer.py.
    Identity at init: offset = 0, bit for bit.
    First step: offset learns.
    Deviations: the parameter is the offset from 1 and not the gate: bfloat16 has a spacing of 7.8e-3 at 1, so
    that a gate stored there would not move under small steps. The paper gates activations after the bias, and
    so does this.
    """

    name = "ia3"
    config_class = IA3Config
    reference = references.IA3
    laws: ClassVar = {
        "trains": ("offset",),
        "linear_in": ("offset",),
        "inputs": {},
        "outputs": {"offset": 0},
        "sees_the_output_alone": True,
        "starts": {"offset": 0},
    }

    offset: Tensor

    @classmethod
    def specs(cls, shape: LinearShape, config: IA3Config) -> dict[str, ParamSpec]:
        return {"offset": ParamSpec((shape.d_out,), zeros, first_gradient="nonzero")}

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        return gated(y, self.offset)
