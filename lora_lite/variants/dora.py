"""DoRA: Weight-Decomposed Low-Rank Adaptation. Liu et al. 2024, arXiv:2402.09353.

    y = m/n ∘ (x Wᵀ + s (x Aᵀ) Bᵀ) + b        n = row norms of W + s B A, m = row norms of W at init

Reference: equation 5 of the paper; peft's tuners/lora/dora.py.
Identity at init: B = 0, so n = m, to rounding.
First step: B and m learn, the gradient of A is exactly zero. No gradient flows through n (section 4.3).
Deviations: no dropout. A row of W + s B A that is exactly zero counts as having n = 1, which keeps output and gradients finite.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora_lite.config import AdapterConfig
from lora_lite.linear import LinearShape, at_least_float32, read_weight
from lora_lite.spec import ParamSpec, Variant, kaiming_uniform, register, zeros
from lora_lite.variants import references
from lora_lite.variants.low_rank import add_low_rank


@dataclass(frozen=True, kw_only=True)
class DoRAConfig(AdapterConfig):
    """Config of DoRA: the common fields alone."""

    variant: ClassVar[str] = "dora"


@register
class DoRA(Variant):
    """LoRA on the direction of each output row, and a magnitude of its own."""

    name = "dora"
    config_class = DoRAConfig
    reference = references.DORA
    reads_weight = True

    A: Tensor
    B: Tensor
    m: Tensor

    @classmethod
    def specs(cls, shape: LinearShape, config: DoRAConfig) -> dict[str, ParamSpec]:
        return {
            "A": ParamSpec((config.r, shape.d_in), kaiming_uniform, first_gradient="zero"),
            "B": ParamSpec((shape.d_out, config.r), zeros, first_gradient="nonzero"),
            "m": ParamSpec((shape.d_out,), first_gradient="nonzero"),
        }

    @classmethod
    def identity(cls, config: DoRAConfig) -> Literal["exact", "rounding"]:
        return "rounding"

    def initialise(self, layer: nn.Module, statistics: Any) -> None:
        self.m.copy_(torch.linalg.vector_norm(read_weight(layer), dim=1, dtype=torch.float64))

    def row_norms(self, layer: nn.Module) -> Tensor:
        """n (d_out,), in float32 at least, without forming the d_out × d_in product B A.

        |W + s B A|² = |W|² + 2 s ⟨W Aᵀ, B⟩ + s² ⟨B (A Aᵀ), B⟩ by rows. The three sums may cancel where the update nearly
        annihilates a row, so they are accumulated in float64.
        """
        W, A, B = read_weight(layer), self.A.detach(), self.B.detach().double()
        wide = at_least_float32(torch.promote_types(W.dtype, A.dtype))
        cross = F.linear(W.to(wide), A.to(wide)).double()
        A = A.double()
        squared = torch.linalg.vector_norm(W, dim=1, dtype=torch.float64).square()
        squared += ((2 * self.scale) * cross + self.scale**2 * (B @ (A @ A.mT))).mul_(B).sum(1)
        n = squared.clamp_(min=0).sqrt_()
        return torch.where(n == 0, 1, n).to(at_least_float32(self.m.dtype))

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        ratio = self.m / self.row_norms(layer)
        y = add_low_rank(y, x, self.A, self.B, self.scale)
        bias: Any = layer.bias
        if bias is None:
            return y * ratio
        # y holds the bias already: ratio (y − b) + b, with the part that depends on the tokens in one pass.
        return torch.addcmul(bias * (1 - ratio), y, ratio)
