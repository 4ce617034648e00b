"""BOFT, arXiv:2311.06243 section 4: W' = W R, R a product of butterfly factors of orthogonal blocks."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

import lora_lite as ll
from lora_lite.spec import zeros
from properties.instruments.strangers.shared import Unranked, cayley, skew
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import is_zero, linear


@dataclass(frozen=True, kw_only=True)
class BOFTConfig(Unranked):
    """Settings of BOFT: the width of a block, and the number of factors."""

    variant: ClassVar[str] = "boft"
    block: int = ll.option(2, values=(2, 3), wrong=(None, 1, 2.0))
    factors: int = ll.option(2, values=(2, 1, 3), wrong=(None, 0, 1.5))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_whole("block", 2)
        self.require_whole("factors", 1)


@ll.register
class BOFT(ll.Variant):
    """BOFT: Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization.

        y = (x Rᵀ) Wᵀ + b        R = R_m … R₁, R_i mixes features that are blockⁱ⁻¹ apart

    Tensors:
        q  (factors, d_in / block, block (block − 1) / 2)  trained  starts at 0

    Reference: section 4 of the paper.
    Identity at init: R = I, to rounding.
    First step: q learns.
    Deviations: none.
    """

    name = "boft"
    config_class = BOFTConfig
    reference = ll.Reference(
        arxiv="2311.06243",
        titles=("Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization",),
    )

    q: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: BOFTConfig) -> dict[str, ll.ParamSpec]:
        entries = config.block * (config.block - 1) // 2
        size = (config.factors, shape.d_in // config.block, entries)
        return {"q": ll.ParamSpec(size, zeros, first_gradient="nonzero")}

    @classmethod
    def check(cls, shape: ll.LinearShape, config: BOFTConfig) -> None:
        if shape.d_in % config.block**config.factors:
            wanted = f"a multiple of {config.block}^{config.factors}"
            raise ll.ConfigError(f"boft: d_in = {shape.d_in}, wanted {wanted}")

    @classmethod
    def identity(cls, config: BOFTConfig) -> Literal["exact", "rounding"]:
        return "rounding"

    def adapt_input(self, x: Tensor) -> Tensor:
        size = self.config.block
        wide = torch.promote_types(torch.promote_types(self.q.dtype, x.dtype), torch.float32)
        x = x.to(wide)
        for i, R in enumerate(cayley(self.q.to(wide), size)):
            apart = size**i
            mixed = x.reshape(*x.shape[:-1], x.shape[-1] // (size * apart), size, apart)
            blocks = R.reshape(-1, apart, size, size)
            x = torch.einsum("...gba,gacb->...gca", mixed, blocks).flatten(-3)
        return x


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    """By dense factors, each an explicit inverse."""
    size, d_in = options["block"], W.shape[-1]
    for i in range(options["factors"]):
        Q = skew(p["q"][..., i, :, :], size)
        eye = torch.eye(size).to(x)
        R = torch.linalg.inv(eye - Q) @ (eye + Q)
        own = torch.arange(d_in).view(-1, size, size**i).mT.reshape(-1, size)
        dense = x.new_zeros(*R.shape[:-3], d_in, d_in)
        dense[..., own[:, :, None], own[:, None, :]] = R
        x = x @ dense.mT
    return linear(x, W, b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    size, factors = options["block"], options["factors"]
    return [is_zero("q", p["q"], (factors, W.shape[1] // size, size * (size - 1) // 2))]


ORACLES["boft"] = Oracle(forward, init_laws, trained=frozenset({"q"}))
