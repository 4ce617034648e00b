"""PiSSA, arXiv:2404.02948. The method: help(ll.PiSSA), its settings: help(ll.PiSSAConfig)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lora_lite.config import AdapterConfig, option
from lora_lite.errors import ConfigError
from lora_lite.linear import LinearShape, at_least_float32, read_weight
from lora_lite.ranks import checked_rank, limited_rank
from lora_lite.spec import ParamSpec, Variant, register
from lora_lite.variants import references
from lora_lite.variants.low_rank import add_low_rank

# Iterations: two or three do, and a billion would not end.
MOST = 1000


@dataclass(frozen=True, kw_only=True)
class PiSSAConfig(AdapterConfig):
    """Settings of PiSSA, arXiv:2404.02948, which help(ll.PiSSA) describes.

    r = 8                   rank of the update: how many principal directions of W are trained; a whole number
                            from 1 to the smaller width of every target layer
    alpha = 16.0            the update is scaled by s = alpha / r; above 0. Every alpha gives the same at init
    dtype = torch.float32   of the adapter's tensors and computation; or torch.bfloat16, float16, float64
    niter = None            None takes the exact SVD of W; a whole number from 0 to 1000 takes the randomised
                            one with that many iterations (torch.svd_lowrank): quicker on wide layers, and
                            drawn from torch's generator. The identity at init holds with either

    target_names, exclude_names, target_roles and layers choose the layers: help(ll.AdapterConfig).
    Raises ConfigError, with the field's name, on a value out of its range. attach raises it where r exceeds a
    layer's smaller width or W = 0, and BaseWeightError where W cannot be read as floating-point numbers.
    """

    variant: ClassVar[str] = "pissa"
    niter: int | None = option(None, values=(None, 4), wrong=(-1, 1001, 0.5, True, "eight"))

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = self.niter is None or (type(self.niter) is int and 0 <= self.niter <= MOST)
        self.require(whole, "niter", f"None or a whole number from 0 to {MOST}")


@register
class PiSSA(Variant):
    """PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models.
    Meng et al. 2024, arXiv:2404.02948.

        y = x Wᵀ + b + s ((x Aᵀ) Bᵀ − (x A₀ᵀ) B₀ᵀ)
        A₀ = √(S/s) Vᵀ, B₀ = U √(S/s), the top r of W = U S Vᵀ        s = alpha / r

    A low-rank update that starts as W's own principal part. It reads W at attach.

    Tensors:
        A   (r, d_in)   trained  starts at A₀
        B   (d_out, r)  trained  starts at B₀
        A0  (r, d_in)   frozen   A₀
        B0  (d_out, r)  frozen   B₀

    Reference: equations 2 to 4 of the paper; peft's tuners/lora/layer.py, pissa_init.
    Identity at init: A = A₀ and B = B₀, to rounding.
    First step: A and B both learn.
    Deviations: the paper moves the principal part out of W, W_res = W − s B₀ A₀; here W stays and the frozen
    principal part is subtracted beside it: the same function and gradients, for a second low-rank product.
    The singular values are divided by s, so that every alpha gives the same function at init.
    """

    name = "pissa"
    config_class = PiSSAConfig
    reference = references.PISSA
    reads_weight = True
    laws: ClassVar = {
        "trains": ("A", "B"),
        "proportional_to": ("alpha",),
        "affine_in": ("A", "B"),
        "any_order_of": {"A": 0, "B": 1},
        "one_more_zero": {"A": 0, "B": 1, "A0": 0, "B0": 1},
        "composed_of": {"A": 0, "B": 1, "A0": 0, "B0": 1},
        "repeated": {"A": 0, "B": 1, "A0": 0, "B0": 1},
        "unchanged_by": ({"A": 1, "B": -1}, {"A0": 1, "B0": -1}),
        "inputs": {"A": 1, "A0": 1},
        "outputs": {"B": 0, "B0": 0},
        "rank": 2,
        "apart_from_the_base": True,
        "starts": {"A0": "A", "B0": "B"},
        "starts_as_svd": ("B", "A"),
    }

    A: Tensor
    B: Tensor
    A0: Tensor
    B0: Tensor

    @classmethod
    def specs(cls, shape: LinearShape, config: PiSSAConfig) -> dict[str, ParamSpec]:
        A, B = (config.r, shape.d_in), (shape.d_out, config.r)
        return {
            "A": ParamSpec(A, first_gradient="nonzero"),
            "B": ParamSpec(B, first_gradient="nonzero"),
            "A0": ParamSpec(A),
            "B0": ParamSpec(B),
        }

    @classmethod
    def check(cls, shape: LinearShape, config: PiSSAConfig) -> None:
        checked_rank(shape, config)

    @classmethod
    def fit(cls, shape: LinearShape, config: PiSSAConfig) -> PiSSAConfig:
        fitted: PiSSAConfig = limited_rank(shape, config)
        return fitted

    @classmethod
    def identity(cls, config: PiSSAConfig) -> Literal["exact", "rounding"]:
        return "rounding"

    def initialise(self, layer: nn.Module, statistics: Any) -> None:
        W = read_weight(layer)
        W = W.to(at_least_float32(W.dtype))
        r = self.A.shape[0]
        if self.config.niter is None:
            U, S, Vh = torch.linalg.svd(W, full_matrices=False)
        else:
            U, S, V = torch.svd_lowrank(W, q=r, niter=self.config.niter)
            Vh = V.mT
        if not S.any():
            raise ConfigError(
                "pissa: W is zero and has no principal part; it could never learn. Leave the layer out."
            )
        # s multiplies the product again: s B A is the principal part, whatever alpha is.
        root = (S[:r].double() / self.scale).sqrt()
        for name in ("A", "A0"):
            getattr(self, name).copy_(root[:, None] * Vh[:r])
        for name in ("B", "B0"):
            getattr(self, name).copy_(U[:, :r] * root)

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        # One product of rank 2 r in place of two of rank r, each of which would pass over all tokens.
        # s goes with A: at a small s both factors are large, and their product overflows.
        down = torch.cat([self.A, self.A0]) * self.scale
        up = torch.cat([self.B, -self.B0], dim=1)
        return add_low_rank(y, x, down, up)
