"""HRA, arXiv:2405.17484. The method: help(ll.HRA), its settings: help(ll.HRAConfig)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lora_lite.config import AdapterConfig
from lora_lite.errors import ConfigError
from lora_lite.linear import LinearShape, at_least_float32
from lora_lite.spec import ParamSpec, Variant, kaiming_uniform, register
from lora_lite.variants import references
from lora_lite.variants.low_rank import add_up

# Of reflections: r × r numbers of eight bytes are 128 MiB there.
MOST = 2**12


def paired_kaiming_uniform(tensor: Tensor) -> None:
    """(r, d_in): r/2 kaiming-uniform rows, each twice in a row."""
    half = torch.empty_like(tensor[::2])
    kaiming_uniform(half)
    tensor.copy_(half.repeat_interleave(2, dim=0))


@dataclass(frozen=True, kw_only=True)
class HRAConfig(AdapterConfig):
    """Settings of HRA, arXiv:2405.17484, which help(ll.HRA) describes.

    r = 8                   number of reflections, a whole number from 2 to 2¹² and even: they start in pairs.
                            It may exceed the layer's widths; the products of all of them, r × r in float64,
                            are held at every call
    dtype = torch.float32   of the adapter's tensors and computation; or torch.bfloat16, float16, float64

    It has no alpha: anything but None is refused.
    target_names, exclude_names, target_roles and layers choose the layers: help(ll.AdapterConfig).
    Raises ConfigError, with the field's name, on a value out of its range. attach raises it on a layer of
    d_in = 1, where a reflection has no gradient.
    """

    variant: ClassVar[str] = "hra"
    unused: ClassVar[tuple[str, ...]] = ("alpha",)
    alpha: None = None  # type: ignore[assignment]  # refused, see `unused`

    def __post_init__(self) -> None:
        super().__post_init__()
        even = self.r is not None and self.r % 2 == 0
        self.require(even, "r", "an even number: reflections start in pairs")
        self.require(self.r <= MOST, "r", f"at most {MOST}: r × r products are held at every call")


@register
class HRA(Variant):
    """HRA: Bridging The Gap between Low-rank and Orthogonal Adaptation via Householder Reflection Adaptation.
    Yuan et al. 2024, arXiv:2405.17484.

        y = (x Rᵀ) Wᵀ + b        R = H₀ H₁ … H_{r−1}, H_i = I − 2 u uᵀ / |u|², u the i-th row of U

    An orthogonal map of the layer's input, a product of reflections: |x| stays, and the length of a row of
    U has no effect. It does not read W, which may be quantised.

    Tensors:
        U  (r, d_in)  trained  starts as r/2 rows uniform in ±1/√d_in, each twice in a row

    Reference: equation 3 of the paper; peft's tuners/hra/layer.py.
    Identity at init: rows come in equal pairs, H H = I, to rounding.
    First step: U learns; the two rows of a pair get opposite gradients.
    Deviations: no orthogonality regulariser (the paper's λ = 0). A row u = 0 counts as H = I. Computed in the
    compact WY form of the product rather than as r reflections one after the other.
    """

    name = "hra"
    config_class = HRAConfig
    reference = references.HRA
    laws: ClassVar = {
        "trains": ("U",),
        "one_more_zero": {"U": 0},
        "composed_of": {"U": 0},
        "unchanged_by": {"U": 1},
        "any_size": ("U",),
        "inputs": {"U": 1},
        "outputs": {},
        "rank": 1,
        "starts": {"U": "uniform pairs"},
        "keeps": ("singular values", "row norms", "row angles"),
    }

    U: Tensor

    @classmethod
    def specs(cls, shape: LinearShape, config: HRAConfig) -> dict[str, ParamSpec]:
        return {"U": ParamSpec((config.r, shape.d_in), paired_kaiming_uniform, first_gradient="nonzero")}

    @classmethod
    def check(cls, shape: LinearShape, config: HRAConfig) -> None:
        if shape.d_in < 2:
            raise ConfigError(
                "hra: d_in = 1, wanted 2 or more: a reflection of a line has no gradient. Leave the layer"
                " out."
            )

    @classmethod
    def identity(cls, config: HRAConfig) -> Literal["exact", "rounding"]:
        return "rounding"

    def wy_factors(self) -> tuple[Tensor, Tensor]:
        """N and P, both (r, d_in), with R = I − Nᵀ P: N are the unit rows, and
        P = (½ I + the strictly upper triangle of N Nᵀ)⁻¹ N.

        The r × r system is solved in float64: with many nearly parallel rows it loses 2e-4 of the gradient in
        float32.
        """
        U = self.U.to(torch.float64)
        norms = torch.linalg.vector_norm(U, dim=1, keepdim=True)
        # A row u = 0 stays 0, so that its H is I and not NaN.
        N = U / torch.where(norms == 0, 1, norms)
        half = torch.eye(len(N), dtype=N.dtype, device=N.device) / 2
        P = torch.linalg.solve_triangular(half + (N @ N.mT).triu(1), N, upper=True)
        return N, P

    def adapt_input(self, x: Tensor) -> Tensor:
        # In float32 at least, and no coarser than x: P's rows are large where reflections nearly cancel, as
        # they do near init.
        wide = at_least_float32(torch.promote_types(self.U.dtype, x.dtype))
        N, P = (factor.to(wide) for factor in self.wy_factors())
        # x Rᵀ = x − (x Pᵀ) N. The difference is taken in the wider dtype: x itself must not be rounded.
        x = x.to(wide)
        return add_up(x, F.linear(x, P), N.mT, -1.0)
