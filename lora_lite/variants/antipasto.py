"""AntiPaSTO, arXiv:2601.07473. The method: help(ll.AntiPaSTO), its settings: help(ll.AntiPaSTOConfig)."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora_lite.config import AdapterConfig, is_number, option
from lora_lite.linear import LinearShape, at_least_float32, read_weight
from lora_lite.ranks import checked_rank, limited_rank
from lora_lite.spec import Calibrator, ParamSpec, Variant, register, zeros
from lora_lite.variants import references
from lora_lite.variants.low_rank import add_up


@dataclass(frozen=True, kw_only=True)
class AntiPaSTOConfig(AdapterConfig):
    """Settings of AntiPaSTO, arXiv:2601.07473, which help(ll.AntiPaSTO) describes.

    r = 8                   how many of W's singular directions are adapted: a multiple of block_size, up to
                            the smaller width of every target layer
    dtype = torch.float32   of the adapter's tensors and computation; or torch.bfloat16, float16, float64
    rotate_basis = 'V'      which singular basis turns: 'V' the input's, 'U' the output's, 'none' neither
    block_size = 4          so many directions turn among themselves; a whole number, 2 or more
    max_skew = 0.5          |K| stays below 2 tan(max_skew / 2), entry by entry; from 1.1e-19 to below π. That
                            is the largest angle, in radians, of blocks of 2; larger blocks can turn further

    It has no alpha: anything but None is refused.
    target_names, exclude_names, target_roles and layers choose the layers: help(ll.AdapterConfig).
    Raises ConfigError, with the field's name, on a value out of its range. attach raises it where r exceeds a
    layer's smaller width, and BaseWeightError where W cannot be read as floating-point numbers.
    """

    variant: ClassVar[str] = "antipasto"
    unused: ClassVar[tuple[str, ...]] = ("alpha",)
    alpha: None = None  # type: ignore[assignment]  # refused, see `unused`
    rotate_basis: Literal["V", "U", "none"] = option("V", values=("V", "U", "none"), wrong=(None, "eight"))
    block_size: int = option(4, values=(2, 4), wrong=(None, 0, 1, True, 0.5, 4.0, "eight"))
    max_skew: float = option(
        0.5, values=(0.5, 1.0), wrong=(None, 0, -1, True, math.nan, math.inf, 4.0, 5e-324, "eight")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = type(self.block_size) is int and self.block_size >= 2
        self.require(whole, "block_size", "a whole number, 2 or more (rotate_basis='none' for no rotation)")
        divides = self.r is not None and self.r % self.block_size == 0
        self.require(divides, "r", f"a multiple of block_size = {self.block_size}")
        # Its reciprocal meets what the rotation is made of, and so does its gradient.
        least = math.sqrt(torch.finfo(at_least_float32(self.dtype)).tiny)
        bounded = is_number(self.max_skew) and least <= self.max_skew < math.pi
        self.require(bounded, "max_skew", f"a number from {least:.3g} on and below π")


class ProjectionSizes(Calibrator):
    """All singular triplets of a layer's weight, and mean|x · v_i| over all calibration tokens."""

    def __init__(self, weight: Tensor) -> None:
        # All of them, before any batch: which r count is known after the last.
        self.U, self.S, self.Vh = singular_triplets(weight)
        self.total = torch.zeros(len(self.S), dtype=torch.float64, device=weight.device)
        self.tokens = 0

    def update(self, x: Tensor) -> None:
        # The sum does for the mean: all directions have seen the same tokens.
        self.total += (x.double() @ self.Vh.double().mT).abs().sum(0)
        self.tokens += len(x)

    def strongest(self, r: int) -> Tensor:
        """Indices (r,) of the largest S_i · mean|x · v_i|, strongest first."""
        # Stable, so that equal ones keep the order of the S_i.
        return torch.argsort(self.S * self.total, descending=True, stable=True)[:r]


def singular_triplets(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U (d_out, k), S (k,), Vh (k, d_in), k = min(d_in, d_out), in float32 at least."""
    U, S, Vh = torch.linalg.svd(weight.to(at_least_float32(weight.dtype)), full_matrices=False)
    return U, S, Vh


def block_diagonal(blocks: Tensor) -> Tensor:
    """(n, k, k) -> (n k, n k), zero outside of the blocks."""
    count, size, _ = blocks.shape
    return torch.diag_embed(blocks.permute(1, 2, 0)).permute(2, 0, 3, 1).reshape(count * size, count * size)


@register
class AntiPaSTO(Variant):
    """AntiPaSTO: Self-Supervised Honesty Steering via Anti-Parallel Representations. 2026, arXiv:2601.07473.
    Rotates and rescales a layer's own singular directions.

        y = x Wᵀ + b + x Vhᵀ (Rᵀ diag(S + δs) − diag(S)) Uᵀ
        W ≈ U diag(S) Vh, r of its singular triplets

    R is block-diagonal; per block R = (I − X)⁻¹ (I + X), X = K/2, K = a tanh(½ (T − Tᵀ) / a),
    a = 2 tan(max_skew / 2), T strictly upper triangular from `rot`. rotate_basis="V" turns the input basis
    (Vh_eff = R Vh, the formula above), "U" the output basis (U_eff = U Rᵀ), "none" only rescales.
    The r triplets are those of the largest S_i; where attach gets calibration_data, those of the largest
    S_i · mean|x · v_i|. It reads W at attach.

    Tensors:
        delta_s  (r,)        trained  δs, starts at 0
        rot      (r // block_size, block_size * (block_size - 1) // 2)
                             trained  T, starts at 0; absent with rotate_basis="none"
        U        (d_out, r)  frozen   left singular vectors of W
        S        (r,)        frozen   its singular values
        Vh       (r, d_in)   frozen   right singular vectors of W

    Reference: equation 4 of the paper, W' = U (S + ΔS) R Vᵀ + W_res, at steering coefficient 1.
    Identity at init: δs = 0 and rot = 0, bit for bit.
    First step: δs and rot learn.
    Deviations: blocks in place of one full r × r rotation; zero init in place of small noise, so that the
    identity is exact; every linear layer allowed and not only those that write to the residual stream; W
    stays whole and the unrotated part is subtracted. max_skew bounds the entries of K, not the angle of the
    rotation.
    """

    name = "antipasto"
    config_class = AntiPaSTOConfig
    reference = references.ANTIPASTO
    reads_weight = True
    laws: ClassVar = {
        "trains": ("delta_s", "rot"),
        "affine_in": ("delta_s",),
        "inputs": {"Vh": 1},
        "outputs": {"U": 0},
        "rank": 1,
        "apart_from_the_base": True,
        "norm_is": {"delta_s": ("rot",)},
        "keeps": {"singular values": ("delta_s",)},
        "where": {
            "rotate_basis": {
                "V": {"keeps": {"row norms": ("delta_s",), "row angles": ("delta_s",)}},
                "U": {"keeps": {"column norms": ("delta_s",), "column angles": ("delta_s",)}},
                "none": {"keeps": {"row norms": ("delta_s",), "column norms": ("delta_s",)}},
            }
        },
        "starts": {"delta_s": 0, "rot": 0},
        "starts_as_svd": ("U", "S", "Vh"),
    }

    delta_s: Tensor
    rot: Tensor
    U: Tensor
    S: Tensor
    Vh: Tensor

    @classmethod
    def specs(cls, shape: LinearShape, config: AntiPaSTOConfig) -> dict[str, ParamSpec]:
        r, block = config.r, config.block_size
        specs = {
            "delta_s": ParamSpec((r,), zeros, first_gradient="nonzero"),
            "rot": ParamSpec((r // block, block * (block - 1) // 2), zeros, first_gradient="nonzero"),
            "U": ParamSpec((shape.d_out, r)),
            "S": ParamSpec((r,)),
            "Vh": ParamSpec((r, shape.d_in)),
        }
        if config.rotate_basis == "none":
            del specs["rot"]
        return specs

    @classmethod
    def check(cls, shape: LinearShape, config: AntiPaSTOConfig) -> None:
        checked_rank(shape, config)

    @classmethod
    def fit(cls, shape: LinearShape, config: AntiPaSTOConfig) -> AntiPaSTOConfig:
        fitted: AntiPaSTOConfig = limited_rank(shape, config, config.block_size)
        return fitted

    @classmethod
    def calibrator(cls, layer: nn.Module, config: AntiPaSTOConfig) -> ProjectionSizes:
        return ProjectionSizes(read_weight(layer))

    def initialise(self, layer: nn.Module, statistics: Any) -> None:
        r = len(self.S)
        if statistics is None:
            U, S, Vh = singular_triplets(read_weight(layer))
            chosen = torch.arange(r, device=S.device)
        else:
            # The very triplets that were measured: another SVD may give equal S_i another basis.
            U, S, Vh = statistics.U, statistics.S, statistics.Vh
            chosen = statistics.strongest(r)
        self.U.copy_(U[:, chosen])
        self.S.copy_(S[chosen])
        self.Vh.copy_(Vh[chosen])

    def rotation_minus_identity(self) -> Tensor:
        """R − I, (r / block, block, block), by Cayley's map of the bounded skew-symmetric K; in float32 at
        least.

        R − I = (I − X)⁻¹ 2 X has no cancellation where the rotation is small.
        """
        block = self.config.block_size
        bound = 2 * math.tan(self.config.max_skew / 2)
        rot = self.rot.to(at_least_float32(self.rot.dtype))
        upper = torch.triu_indices(block, block, offset=1, device=rot.device)
        T = rot.new_zeros(len(rot), block, block)
        T = T.index_put((torch.arange(len(rot), device=rot.device)[:, None], upper[0], upper[1]), rot)
        X = bound / 2 * torch.tanh((T - T.mT) / (2 * bound))
        Q: Tensor = torch.linalg.solve(torch.eye(block, dtype=X.dtype, device=X.device) - X, 2 * X)
        return Q

    def middle(self) -> Tensor:
        """M (r, r) of y + x Vhᵀ M Uᵀ, in float32 at least.

        Written as a sum of what rotation and rescaling change, so that S itself never cancels.
        """
        wide = at_least_float32(self.S.dtype)
        delta = self.delta_s.to(wide)
        M = torch.diag(delta)
        if self.config.rotate_basis == "V":
            M = M + block_diagonal(self.rotation_minus_identity().mT) * (self.S.to(wide) + delta)
        elif self.config.rotate_basis == "U":
            M = M + (self.S.to(wide) + delta)[:, None] * block_diagonal(self.rotation_minus_identity())
        return M

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        h = F.linear(x.to(self.Vh.dtype), self.Vh)
        return add_up(y, h @ self.middle().to(h.dtype), self.U)
