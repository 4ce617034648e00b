"""MiSS, arXiv:2409.15371 section 3: the update of W repeats one matrix D over shards of r inputs."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.spec import zeros
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import is_zero, linear


@dataclass(frozen=True, kw_only=True)
class MiSSConfig(ll.AdapterConfig):
    """Settings of MiSS: r, the width of a shard."""

    variant: ClassVar[str] = "miss"
    unused: ClassVar[tuple[str, ...]] = ("alpha",)
    alpha: None = None  # type: ignore[assignment]  # it has none


@ll.register
class MiSS(ll.Variant):
    """MiSS: Balancing LoRA Performance and Efficiency with Simple Shard Sharing.

        y = x Wᵀ + b + (Σ of the shards of x) D

    Tensors:
        D  (r, d_out)  trained  starts at 0

    Reference: section 3 of the paper.
    Identity at init: D = 0, bit for bit.
    First step: D learns.
    Deviations: none.
    """

    name = "miss"
    config_class = MiSSConfig
    reference = ll.Reference(
        arxiv="2409.15371",
        titles=(
            "MiSS: Revisiting the Trade-off in LoRA with an Efficient Shard-Sharing Structure",
            "MiSS: Balancing LoRA Performance and Efficiency with Simple Shard Sharing",
        ),
    )

    D: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: MiSSConfig) -> dict[str, ll.ParamSpec]:
        return {"D": ll.ParamSpec((config.r, shape.d_out), zeros, first_gradient="nonzero")}

    @classmethod
    def check(cls, shape: ll.LinearShape, config: MiSSConfig) -> None:
        if config.r > shape.d_in:
            raise ll.ConfigError(f"miss: r = {config.r} on a layer of d_in = {shape.d_in}, wanted r ≤ d_in")

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        x = F.pad(x.to(self.D.dtype), (0, -x.shape[-1] % self.config.r))
        shards = x.view(*x.shape[:-1], x.shape[-1] // self.config.r, self.config.r)
        return y + shards.sum(-2) @ self.D


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    d_in = W.shape[-1]
    repeats = (1,) * (p["D"].ndim - 2) + (-(-d_in // options["r"]), 1)
    return linear(x, W + p["D"].repeat(repeats)[..., :d_in, :].mT, b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    return [is_zero("D", p["D"], (options["r"], len(W)))]


ORACLES["miss"] = Oracle(forward, init_laws, trained=frozenset({"D"}))
