"""OFT, arXiv:2306.07280 section 3: W' = W R, R block-diagonal, each block (I + Q)(I − Q)⁻¹ with Q skew."""

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
class OFTConfig(Unranked):
    """Settings of OFT: the width of a block."""

    variant: ClassVar[str] = "oft"
    block: int = ll.option(2, values=(2, 4), wrong=(None, 1, 2.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_whole("block", 2)


@ll.register
class OFT(ll.Variant):
    """OFT: Controlling Text-to-Image Diffusion by Orthogonal Finetuning.

        y = (x Rᵀ) Wᵀ + b        R = (I + Q)(I − Q)⁻¹ in each block

    Tensors:
        q  (d_in / block, block (block − 1) / 2)  trained  starts at 0: Q above the diagonal

    Reference: section 3 of the paper.
    Identity at init: R = I, to rounding.
    First step: q learns.
    Deviations: none.
    """

    name = "oft"
    config_class = OFTConfig
    reference = ll.Reference(
        arxiv="2306.07280", titles=("Controlling Text-to-Image Diffusion by Orthogonal Finetuning",)
    )
    laws: ClassVar = {"outputs": {}, "keeps": ("singular values", "row norms", "row angles")}

    q: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: OFTConfig) -> dict[str, ll.ParamSpec]:
        blocks, entries = shape.d_in // config.block, config.block * (config.block - 1) // 2
        return {"q": ll.ParamSpec((blocks, entries), zeros, first_gradient="nonzero")}

    @classmethod
    def check(cls, shape: ll.LinearShape, config: OFTConfig) -> None:
        if shape.d_in % config.block:
            raise ll.ConfigError(f"oft: d_in = {shape.d_in} on a layer, wanted a multiple of {config.block}")

    @classmethod
    def identity(cls, config: OFTConfig) -> Literal["exact", "rounding"]:
        return "rounding"

    def adapt_input(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(torch.promote_types(self.q.dtype, x.dtype), torch.float32)
        R = cayley(self.q.to(wide), self.config.block)
        blocks = x.to(wide).reshape(*x.shape[:-1], len(R), self.config.block)
        return torch.einsum("...bi,bji->...bj", blocks, R).flatten(-2)


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    """By dense blocks, each an explicit inverse."""
    Q, d_in = skew(p["q"], options["block"]), W.shape[-1]
    eye = torch.eye(options["block"]).to(x)
    own = torch.arange(d_in).view(-1, options["block"])
    R = x.new_zeros(*Q.shape[:-3], d_in, d_in)
    R[..., own[:, :, None], own[:, None, :]] = torch.linalg.inv(eye - Q) @ (eye + Q)
    return linear(x, W @ R, b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    size = options["block"]
    return [is_zero("q", p["q"], (W.shape[1] // size, size * (size - 1) // 2))]


ORACLES["oft"] = Oracle(forward, init_laws, trained=frozenset({"q"}))
