"""VeRA, arXiv:2310.11454 equation 2: y = x Wᵀ + b + Λ_b B Λ_d A x, A and B random, frozen and shared."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.spec import kaiming_uniform, zeros
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import kaiming, linear


@dataclass(frozen=True, kw_only=True)
class VeRAConfig(ll.AdapterConfig):
    """Settings of VeRA: r, where d starts, and the seed of what all layers share."""

    variant: ClassVar[str] = "vera"
    unused: ClassVar[tuple[str, ...]] = ("alpha",)
    alpha: None = None  # type: ignore[assignment]  # it has none
    d_init: float = ll.option(0.1, values=(0.1, 1.0), wrong=(None, 0.0, -1.0))
    seed: int = ll.option(0, values=(0, 7), wrong=(None, -1, 0.5))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(isinstance(self.d_init, float) and self.d_init > 0, "d_init", "a number above 0")
        in_range = isinstance(self.seed, int) and 0 <= self.seed < 2**63
        self.require(in_range, "seed", "a whole number from 0 to 2⁶³ − 1")


@ll.register
class VeRA(ll.Variant):
    """VeRA: Vector-based Random Matrix Adaptation.

        y = x Wᵀ + b + v ∘ ((x Aᵀ ∘ d) Bᵀ)

    Tensors:
        A  (r, d_in)   frozen   the same on all layers of a shape
        B  (d_out, r)  frozen   the same on all layers of a shape
        d  (r,)        trained  starts at d_init
        v  (d_out,)    trained  starts at 0: the paper's b

    Reference: section 3.1 of the paper.
    Identity at init: v = 0, bit for bit.
    First step: v learns.
    Deviations: each layer keeps a copy of what is shared.
    """

    name = "vera"
    config_class = VeRAConfig
    reference = ll.Reference(arxiv="2310.11454", titles=("VeRA: Vector-based Random Matrix Adaptation",))

    deviations = (
        ll.Deviation(
            "every_entry_moves_in_every_dtype",
            "d may start at 1, where numbers are 2⁻⁷ apart in bfloat16: steps of 1e-3 move none of them",
            lambda config: config.d_init == 1.0 and config.dtype == torch.bfloat16,
        ),
    )
    laws: ClassVar = {
        "linear_in": ("d", "v"),
        "any_order_of": {"A": 0, "B": 1, "d": 0},
        "inputs": {"A": 1},
        "outputs": {"B": 0, "v": 0},
        "rank": 1,
        "apart_from_the_base": True,
    }

    A: Tensor
    B: Tensor
    d: Tensor
    v: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: VeRAConfig) -> dict[str, ll.ParamSpec]:
        return {
            "A": ll.ParamSpec((config.r, shape.d_in)),
            "B": ll.ParamSpec((shape.d_out, config.r)),
            "d": ll.ParamSpec((config.r,), lambda d: d.fill_(config.d_init), first_gradient="zero"),
            "v": ll.ParamSpec((shape.d_out,), zeros, first_gradient="nonzero"),
        }

    def initialise(self, layer: nn.Module, statistics: Any) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            kaiming_uniform(self.A)
            kaiming_uniform(self.B)

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        h = F.linear(x.to(self.A.dtype), self.A) * self.d
        return y + F.linear(h, self.B) * self.v


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    update = p["v"].unsqueeze(-1) * p["B"] * p["d"].unsqueeze(-2) @ p["A"]
    return linear(x, W + update, b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    (d_out, d_in), r, start = W.shape, options["r"], options["d_init"]
    return [
        *kaiming("A", p["A"], (r, d_in), d_in),
        *kaiming("B", p["B"], (d_out, r), r),
        Law("d = d_init", p["d"], torch.full_like(p["d"], start), start),
        Law("v = 0", p["v"], W.new_zeros(d_out), 0.0),
    ]


ORACLES["vera"] = Oracle(forward, init_laws, trained=frozenset({"d", "v"}))
