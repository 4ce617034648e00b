"""DeLoRA, arXiv:2503.18225. The method: help(ll.DeLoRA), its settings: help(ll.DeLoRAConfig)."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora_lite.config import AdapterConfig, is_number, option
from lora_lite.errors import ConfigError
from lora_lite.linear import LinearShape, at_least_float32
from lora_lite.norms import keep
from lora_lite.spec import Gradient, ParamSpec, Variant, kaiming_uniform, register, zeros
from lora_lite.variants import references
from lora_lite.variants.low_rank import add_up

# As in peft: B = 0 has no norm to divide by.
ZERO_B_NORM_FLOOR = 1e-4


def direction(v: Tensor, dim: int, floor: float) -> tuple[Tensor, Tensor]:
    """A vector along each vector of v, and its norm in float32 at least: up to `floor` it counts as `floor`,
    zero as 1.
    """
    norm = torch.linalg.vector_norm(v, dim=dim, dtype=at_least_float32(v.dtype))
    size = norm.clamp(min=floor) if floor else torch.where(norm == 0, 1.0, norm)
    if v.shape[dim] > 1:
        return v, size
    # On a line a direction is a sign. Its gradient is exactly zero, not the rounding noise that Adam would
    # make steps of.
    long = norm > floor
    return torch.where(long.unsqueeze(dim), v.sign(), v), torch.where(long, 1.0, size)


@dataclass(frozen=True, kw_only=True)
class DeLoRAConfig(AdapterConfig):
    """Settings of DeLoRA, arXiv:2503.18225, which help(ll.DeLoRA) describes.

    r = 8                   rank of the update: a whole number from 1 to 2²⁰, also above the layer's widths
    dtype = torch.float32   of the adapter's tensors and computation; or torch.bfloat16, float16, float64
    lambda_init = 15.0      λ at init; the update's strength is λ / r. From 1.1e-19 to 1.8e19 in
                            float32, of which float16 has less and float64 more; or 0, but with init="zero_b",
                            where it could never learn
    init = 'frozen_copy'    'frozen_copy', the paper's: subtract the adapter as it stood at init, which leaves
                            init continuously. 'zero_b', peft's, for parity: B = 0 and nothing to subtract;
                            its first optimiser step is a jump, and in float16 its first gradient overflows,
                            so that dtype=torch.float16 is refused

    It has no alpha: anything but None is refused.
    target_names, exclude_names, target_roles and layers choose the layers: help(ll.AdapterConfig).
    Raises ConfigError, with the field's name, on a value out of its range. attach raises it on a layer with
    one input and one output, which has no direction to learn, and BaseWeightError where W cannot be read as
    floating-point numbers.
    """

    variant: ClassVar[str] = "delora"
    unused: ClassVar[tuple[str, ...]] = ("alpha",)
    alpha: None = None  # type: ignore[assignment]  # refused, see `unused`
    lambda_init: float = option(
        15.0, values=(15.0, 1.0), wrong=(None, -1, True, math.nan, math.inf, 1e-310, 1e300, "eight")
    )
    init: Literal["frozen_copy", "zero_b"] = option(
        "frozen_copy", values=("frozen_copy", "zero_b"), wrong=(None, "eight")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # It meets norms, and their gradients, whose size is not known here: both ends leave room for them.
        wide = torch.finfo(at_least_float32(self.dtype))
        least = max(math.sqrt(wide.tiny), torch.finfo(self.dtype).tiny)
        largest = min(math.sqrt(wide.max), torch.finfo(self.dtype).max)
        number = is_number(self.lambda_init) and (
            self.lambda_init == 0 or least <= self.lambda_init <= largest
        )
        self.require(
            number, "lambda_init", f"0 or a number from {least:.3g} to {largest:.3g} for {self.dtype}"
        )
        learns = self.lambda_init > 0 or self.init != "zero_b"
        representable = self.init != "zero_b" or self.dtype != torch.float16
        self.require(
            representable,
            "dtype",
            "another with init='zero_b': B's first gradient, over 1e-4, overflows float16",
        )
        self.require(
            learns, "lambda_init", "more than 0 with init='zero_b': with λ = 0 and B = 0 it could never learn"
        )


@register
class DeLoRA(Variant):
    """DeLoRA: Decoupling Angles and Strength in Low-rank Adaptation. Bini et al. 2025, arXiv:2503.18225.

        y = x Wᵀ + b + λ/r ((x ∘ w) Aᵀ ∘ c) Bᵀ − the same with λ₀, A₀, B₀
        c_i = 1 / (|A_i| |B_i|), w = column norms of W

    A low-rank update whose strength λ is learnt apart from its directions: the lengths of the rows A_i and
    the columns B_i are divided out. It reads W at attach.

    Tensors:
        A        (r, d_in)   trained  starts uniform in ±1/√d_in
        B        (d_out, r)  trained  starts uniform in ±1/√r; at 0 with `zero_b`
        lambda_  (1,)        trained  λ, starts at lambda_init
        w        (d_in,)     frozen   column norms of W
        A0       (r, d_in)   frozen   A₀ = A at init; this and the next two with `frozen_copy` alone
        B0       (d_out, r)  frozen   B₀ = B at init
        lambda0  (1,)        frozen   λ₀ = λ at init

    Reference: equations 6 to 9 of the paper; peft's tuners/delora/layer.py (its init is `zero_b`).
    Identity at init: `frozen_copy` (default) subtracts the adapter as it stood at time zero, to rounding;
    `zero_b` sets B = 0 and subtracts nothing, bit for bit.
    First step: with `frozen_copy` A, B and λ learn (A where d_in > 1, B where d_out > 1, both where
    lambda_init > 0); with `zero_b` B alone, and A and λ have gradients of exactly zero.
    Deviations: the norm of W is taken per input column, as in the authors' code and peft (the paper: one
    Frobenius norm), and w is stored in the adapter's dtype. λ₀ is subtracted as in equation 9 (the authors'
    code puts the current λ on the difference, so that λ has no first gradient). With `zero_b` |A_i| and |B_i|
    are floored at 1e-4, as in peft: the first optimiser step is a jump at any learning rate. An adapter in
    float16 computes in float32.
    """

    name = "delora"
    config_class = DeLoRAConfig
    reference = references.DELORA
    reads_weight = True
    norms_along = "columns"
    laws: ClassVar = {
        "trains": ("A", "B", "lambda_"),
        "affine_in": ("lambda_",),
        "linear_in": ("w",),
        "any_order_of": {"A": 0, "B": 1},
        "repeated": {"A": 0, "B": 1, "A0": 0, "B0": 1},
        "unchanged_by": ({"A": 1}, {"B": 1}),
        "where": {"init": {"frozen_copy": {"any_size": ("A", "B")}}},
        "inputs": {"A": 1, "w": 0, "A0": 1},
        "outputs": {"B": 0, "B0": 0},
        "rank": 2,
        "norm_within": ("lambda_", "lambda0"),
        "apart_from_the_base": True,
        "starts": {
            "A": "uniform",
            "lambda_": "lambda_init",
            "w": "column norms",
            "A0": "A",
            "B0": "B",
            "lambda0": "lambda_",
        },
    }

    A: Tensor
    B: Tensor
    lambda_: Tensor
    w: Tensor
    A0: Tensor
    B0: Tensor
    lambda0: Tensor

    @classmethod
    def specs(cls, shape: LinearShape, config: DeLoRAConfig) -> dict[str, ParamSpec]:
        A, B = (config.r, shape.d_in), (shape.d_out, config.r)
        # λ has one entry and not no dimension: fully_shard splits tensors along their first.
        if config.init == "zero_b":
            return {
                "A": ParamSpec(A, kaiming_uniform, first_gradient="zero"),
                "B": ParamSpec(B, zeros, first_gradient="nonzero"),
                "lambda_": ParamSpec((1,), first_gradient="zero"),
                "w": ParamSpec((shape.d_in,)),
            }
        # A direction on a line cannot turn.
        A_learns: Gradient = "nonzero" if config.lambda_init > 0 and shape.d_in > 1 else "zero"
        B_learns: Gradient = "nonzero" if config.lambda_init > 0 and shape.d_out > 1 else "zero"
        return {
            "A": ParamSpec(A, kaiming_uniform, first_gradient=A_learns),
            "B": ParamSpec(B, kaiming_uniform, first_gradient=B_learns),
            "lambda_": ParamSpec((1,), first_gradient="nonzero"),
            "w": ParamSpec((shape.d_in,)),
            "A0": ParamSpec(A),
            "B0": ParamSpec(B),
            "lambda0": ParamSpec((1,)),
        }

    @classmethod
    def check(cls, shape: LinearShape, config: DeLoRAConfig) -> None:
        if shape.d_in == shape.d_out == 1:
            raise ConfigError("delora: a layer 1 → 1 has no direction to learn. Leave the layer out.")

    @classmethod
    def identity(cls, config: DeLoRAConfig) -> Literal["exact", "rounding"]:
        return "rounding" if config.init == "frozen_copy" else "exact"

    @classmethod
    def continuous(cls, config: DeLoRAConfig) -> bool:
        return config.init != "zero_b"

    def initialise(self, layer: nn.Module, statistics: Any) -> None:
        self.lambda_.fill_(float(self.config.lambda_init))
        if self.config.init == "frozen_copy":
            for frozen, live in (("A0", self.A), ("B0", self.B), ("lambda0", self.lambda_)):
                getattr(self, frozen).copy_(live)

    def take_norms(self, norms: Tensor) -> None:
        keep(self.w, norms, "columns")

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        # A gradient is a difference of terms that may each overflow float16: they meet before it is rounded.
        A, B, strength = (
            v.float() if v.dtype == torch.float16 else v for v in (self.A, self.B, self.lambda_)
        )
        floor = ZERO_B_NORM_FLOOR
        if self.config.init == "frozen_copy":
            # The adapter as it stood is r more directions, of strength −λ₀.
            A, B, floor = torch.cat([A, self.A0]), torch.cat([B, self.B0], dim=1), 0.0
            strength = torch.cat([strength.expand(self.config.r), -self.lambda0.expand(self.config.r)])
        (A, A_norms), (B, B_norms) = direction(A, 1, floor), direction(B, 0, floor)
        # In float32 at least, and so is what it multiplies: λ / (r |A_i| |B_i|) overflows float16, the sum
        # need not.
        c = strength.to(A_norms.dtype) / (A_norms * B_norms)
        h = F.linear(x.to(A.dtype), A * self.w) * c
        return add_up(y, h.to(B.dtype), B, 1 / self.config.r)
