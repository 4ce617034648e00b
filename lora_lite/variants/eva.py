"""EVA, arXiv:2410.07170. The method: help(ll.EVA), its settings: help(ll.EVAConfig)."""

import math
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lora_lite.calibration import InputMoments
from lora_lite.config import LARGEST_RANK, AdapterConfig, is_number, option
from lora_lite.errors import CalibrationError
from lora_lite.linear import LinearShape, linear_sizes
from lora_lite.ranks import checked_rank, limited_rank
from lora_lite.spec import ParamSpec, Variant, register, zeros
from lora_lite.variants import references
from lora_lite.variants.low_rank import LAWS, add_low_rank


@dataclass(frozen=True, kw_only=True)
class EVAConfig(AdapterConfig):
    """Settings of EVA, arXiv:2410.07170, which help(ll.EVA) describes.

    r = 8                   rank of the update on each layer, a whole number from 1 to the smaller width of
                            every target layer; with rho > 1 their mean
    alpha = 16.0            the update is scaled by s = alpha / r, the same for every layer; above 0
    dtype = torch.float32   of the adapter's tensors and computation; or torch.bfloat16, float16, float64
    rho = 1.0               a layer may get up to r · rho components; 1 or more, r · rho of 2²⁰ at most. The
                            ranks of all layers together stay r × layers: with rho > 1 the directions that
                            explain most of their layer's variance win, and a layer that wins none gets no
                            adapter

    target_names, exclude_names, target_roles and layers choose the layers: help(ll.AdapterConfig).
    Raises ConfigError, with the field's name, on a value out of its range. attach raises it where r exceeds a
    layer's smaller width, and CalibrationError without calibration_data, with fewer tokens than components,
    or where the centred inputs of a layer have a rank below its own.
    """

    variant: ClassVar[str] = "eva"
    rho: float = option(
        1.0, values=(1.0, 2.0), wrong=(None, 0, 0.5, True, math.nan, math.inf, 1e308, "eight")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        number = is_number(self.rho) and self.rho >= 1
        self.require(number, "rho", "a finite number, 1 or more")
        self.require(self.r * self.rho <= LARGEST_RANK, "rho", f"r · rho of {LARGEST_RANK} at most")
        # A layer of rank k has alpha · k / r of its own.
        fits = self.alpha <= sys.float_info.max / (self.r * self.rho)
        self.require(fits, "alpha", "alpha · r · rho within the range of a float")


@register
class EVA(Variant):
    """EVA: Parameter Efficient Fine-tuning via Explained Variance Adaptation.
    Paischer et al. 2024, arXiv:2410.07170.

        y = x Wᵀ + b + s (x Aᵀ) Bᵀ        s = alpha / r
        A = top principal directions of the layer's calibration inputs

    LoRA whose A looks where the data varies: attach must have calibration_data. It does not read W, which may
    be quantised.

    Tensors:
        A  (r, d_in)   trained  starts at the top r principal directions, as rows of length 1
        B  (d_out, r)  trained  starts at 0

    Reference: sections 3.2 and 3.3 of the paper; peft's tuners/lora/eva.py.
    Identity at init: B = 0, bit for bit.
    First step: B learns, the gradient of A is exactly zero.
    Deviations: one exact centred PCA over all calibration tokens, from second moments in float64, in place of
    the incremental SVD, whose result depends on the batches; padding tokens count as any others, so leave
    them out of the data. Each direction's largest entry is positive. rho = 1 (every layer keeps r) by
    default.
    """

    name = "eva"
    config_class = EVAConfig
    reference = references.EVA
    needs_calibration = True
    laws: ClassVar = {**LAWS, "starts": {"A": "principal directions", "B": 0}}

    A: Tensor
    B: Tensor

    @classmethod
    def specs(cls, shape: LinearShape, config: EVAConfig) -> dict[str, ParamSpec]:
        return {
            "A": ParamSpec((config.r, shape.d_in), first_gradient="zero"),
            "B": ParamSpec((shape.d_out, config.r), zeros, first_gradient="nonzero"),
        }

    @classmethod
    def check(cls, shape: LinearShape, config: EVAConfig) -> None:
        checked_rank(shape, config)

    @classmethod
    def fit(cls, shape: LinearShape, config: EVAConfig) -> EVAConfig:
        fitted: EVAConfig = limited_rank(shape, config)
        return fitted

    @classmethod
    def calibrator(cls, layer: nn.Module, config: EVAConfig) -> InputMoments:
        return InputMoments(at_most=min(*linear_sizes(layer), round(config.r * config.rho)))

    @classmethod
    def allocate(cls, config: EVAConfig, statistics: Mapping[str, Any]) -> dict[str, EVAConfig]:
        """The budget of r × layers components goes to the largest shares of variance, at most r · rho to a
        layer.
        """
        shares = {}
        for name, moments in statistics.items():
            variance, _ = moments.principal()
            most = moments.at_most
            # As many tokens as components are one too few, since centring takes one: the rank below shows it.
            if moments.tokens < most:
                raise CalibrationError(
                    f"{name}: {moments.tokens} calibration tokens for {most} components (r · rho). "
                    f"Give at least {most + 1} tokens, or lower r or rho."
                )
            # Inputs that never vary have shares of 0, and not of 0 / 0.
            total = variance.sum().clamp(min=torch.finfo(variance.dtype).tiny)
            shares[name] = (variance / total)[:most].tolist()
        # sorted is stable: of equal shares the earlier layer's come first.
        ranking = sorted(((share, name) for name in shares for share in shares[name]), key=lambda s: -s[0])
        winners = Counter(name for _, name in ranking[: config.r * len(shares)])
        ranks = {name: winners[name] for name in shares if name in winners}
        for name, rank in ranks.items():
            if rank > (found := statistics[name].rank()):
                raise CalibrationError(
                    f"{name}: the calibration inputs, centred, have rank {found}, wanted {rank} or more. "
                    "Give more varied calibration data, or lower r."
                )
        return {
            name: replace(config, r=rank, alpha=config.alpha * rank / config.r)
            for name, rank in ranks.items()
        }

    def initialise(self, layer: nn.Module, statistics: Any) -> None:
        _, directions = statistics.principal()
        A = directions[: self.A.shape[0]]
        # An eigenvector's sign is the solver's choice. Fixed, the same data gives the same A everywhere.
        largest = A.gather(1, A.abs().argmax(dim=1, keepdim=True))
        self.A.copy_(A * largest.sign())

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        return add_low_rank(y, x, self.A, self.B, self.scale)
