"""DoRA, arXiv:2402.09353. The method: help(ll.DoRA), its settings: help(ll.DoRAConfig)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lora_lite.config import AdapterConfig
from lora_lite.linear import LinearShape, at_least_float32, read_bias, read_weight
from lora_lite.norms import keep, row_norms, rows_at_once
from lora_lite.spec import ParamSpec, Variant, kaiming_uniform, register, zeros
from lora_lite.variants import references
from lora_lite.variants.low_rank import add_low_rank


@dataclass(frozen=True, kw_only=True)
class DoRAConfig(AdapterConfig):
    """Settings of DoRA, arXiv:2402.09353, which help(ll.DoRA) describes.

    r = 8                   rank of the update: a whole number from 1 to 2²⁰, also above the layer's widths
    alpha = 16.0            the update is scaled by s = alpha / r; above 0
    dtype = torch.float32   of the adapter's tensors and computation; or torch.bfloat16, float16, float64

    target_names, exclude_names, target_roles and layers choose the layers: help(ll.AdapterConfig).
    Raises ConfigError, with the field's name, on a value out of its range. attach raises BaseWeightError
    where W or the bias cannot be read as floating-point numbers.
    """

    variant: ClassVar[str] = "dora"


@register
class DoRA(Variant):
    """DoRA: Weight-Decomposed Low-Rank Adaptation. Liu et al. 2024, arXiv:2402.09353.

        y = m/n ∘ (x Wᵀ + s (x Aᵀ) Bᵀ) + b
        n = row norms of W + s B A, m = row norms of W at init, s = alpha / r

    LoRA on the direction of each row of W, and a learnt magnitude for the row. All of W is read at every
    call.

    Tensors:
        A  (r, d_in)   trained  starts uniform in ±1/√d_in
        B  (d_out, r)  trained  starts at 0
        m  (d_out,)    trained  starts at the row norms of W

    Reference: equation 5 of the paper; peft's tuners/lora/dora.py.
    Identity at init: B = 0, so n = m, to rounding.
    First step: B and m learn, the gradient of A is exactly zero. No gradient flows through n
    (section 4.3).
    Deviations: no dropout. A row of W + s B A that is exactly zero counts as having n = 1, which keeps output
    and gradients finite. A row of W whose norm is too small or too large for the adapter's dtype is refused.
    x Wᵀ is the base's output less its bias, and so no more exact than that output: m cannot learn where bias
    swallows x Wᵀ.
    """

    name = "dora"
    config_class = DoRAConfig
    reference = references.DORA
    reads_weight = True
    rereads_weight = True
    norms_along = "rows"
    laws: ClassVar = {
        "trains": ("A", "B", "m"),
        "affine_in": ("m",),
        "any_order_of": {"A": 0, "B": 1},
        "one_more_zero": {"A": 0, "B": 1},
        "repeated": {"A": 0, "B": 1},
        "unchanged_by": {"A": 1, "B": -1},
        "inputs": {"A": 1},
        "outputs": {"B": 0, "m": 0},
        "norms_are": {"rows": "m"},
        "bias_apart": True,
        "stops_before": {"row_norms": ("A", "B")},
        "starts": {"A": "uniform", "B": 0, "m": "row norms"},
    }

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
        read_bias(layer)  # which every forward needs

    def take_norms(self, norms: Tensor) -> None:
        keep(self.m, norms, "rows")

    def _wide(self, W: Tensor) -> torch.dtype:
        """The dtype that W + s B A is taken in."""
        return at_least_float32(torch.promote_types(W.dtype, self.A.dtype))

    @torch.no_grad()
    def row_norms(self, layer: nn.Module) -> Tensor:
        """n (d_out,), in float64: of rows however small or large.

        A block of rows at a time, so that no second d_out × d_in matrix is held.
        |W|² + 2 s ⟨W Aᵀ, B⟩ + s² ⟨B A Aᵀ, B⟩ needs no such matrix either, but takes as long (W Aᵀ is as much
        work as B A), and loses half the digits where the update nearly annihilates a row.
        """
        W = read_weight(layer)
        wide = self._wide(W)
        A, B = self.A.to(wide), self.B.to(wide)
        step = rows_at_once(W)
        blocks = zip(torch.split(W, step), torch.split(B, step), strict=True)
        n = torch.cat([row_norms(torch.addmm(w.to(wide), b, A, alpha=self.scale)) for w, b in blocks])
        return torch.where(n == 0, 1, n)

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        # Norms are wider than half precision; what meets the tokens need not be.
        ratio = (self.m / self.row_norms(layer)).to(torch.promote_types(self.m.dtype, y.dtype))
        y = add_low_rank(y, x, self.A, self.B, self.scale)
        bias = read_bias(layer)
        if bias is None:
            return y * ratio
        # y holds the bias already: ratio (y − b) + b, with the part that depends on the tokens in one pass.
        return torch.addcmul(bias * (1 - ratio), y, ratio)
