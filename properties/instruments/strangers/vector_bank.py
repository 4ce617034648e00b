"""VB-LoRA, arXiv:2405.15179 section 3.2, with the whole bank for its top k: A and B in pieces, each of them a
mixture of the vectors of a bank.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

import lora_lite as ll
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import linear, normal, uniform


@dataclass(frozen=True, kw_only=True)
class VectorBankConfig(ll.AdapterConfig):
    """Settings of VB-LoRA: r, and the bank: how many vectors, and their length."""

    variant: ClassVar[str] = "vector_bank"
    unused: ClassVar[tuple[str, ...]] = ("alpha",)
    alpha: None = None  # type: ignore[assignment]  # it has none
    vectors: int = ll.option(4, values=(4, 6), wrong=(None, 0, 1.5))
    length: int = ll.option(2, values=(2, 1), wrong=(None, 0, 1.5))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("vectors", "length"):
            value = getattr(self, name)
            self.require(type(value) is int and value > 0, name, "a whole number above 0")


@ll.register
class VectorBank(ll.Variant):
    """VB-LoRA: Extreme Parameter Efficient Fine-Tuning with Vector Banks.

        y = x Wᵀ + b + (x Aᵀ) Bᵀ        rows of A, columns of B: pieces, each softmax(its logits) bank

    Tensors:
        bank  (vectors, length)              trained  starts uniform in ±0.02
        down  (r, d_in / length, vectors)    trained  starts normal, deviation 0.1
        up    (r, d_out / length, vectors)   trained  starts normal, deviation 0.1

    Reference: section 3 of the paper.
    Identity at init: none.
    First step: all learn.
    Deviations: all of the bank and not its top k; a bank for each layer.
    """

    name = "vector_bank"
    config_class = VectorBankConfig
    reference = ll.Reference(
        arxiv="2405.15179",
        titles=("VB-LoRA: Extreme Parameter Efficient Fine-Tuning with Vector Banks",),
    )

    bank: Tensor
    down: Tensor
    up: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: VectorBankConfig) -> dict[str, ll.ParamSpec]:
        def logits(width: int) -> ll.ParamSpec:
            pieces = (config.r, width // config.length, config.vectors)
            return ll.ParamSpec(pieces, lambda t: nn.init.normal_(t, std=0.1), first_gradient="nonzero")

        bank = (config.vectors, config.length)
        return {
            "bank": ll.ParamSpec(bank, lambda t: nn.init.uniform_(t, -0.02, 0.02), first_gradient="nonzero"),
            "down": logits(shape.d_in),
            "up": logits(shape.d_out),
        }

    @classmethod
    def check(cls, shape: ll.LinearShape, config: VectorBankConfig) -> None:
        if shape.d_in % config.length or shape.d_out % config.length:
            raise ll.ConfigError(f"vector_bank: {shape}, wanted multiples of length = {config.length}")

    @classmethod
    def identity(cls, config: VectorBankConfig) -> Literal["none"]:
        return "none"

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        A, B = ((logits.softmax(-1) @ self.bank).flatten(-2) for logits in (self.down, self.up))
        return y + F.linear(F.linear(x.to(A.dtype), A), B.mT)


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    """Piece by piece."""
    update = 0
    for i in range(options["r"]):
        row, column = ((p[name][..., i, :, :].softmax(-1) @ p["bank"]).flatten(-2) for name in ("down", "up"))
        update = update + column.unsqueeze(-1) * row.unsqueeze(-2)
    return linear(x, W + update, b, e)


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    (d_out, d_in), r, length, vectors = W.shape, options["r"], options["length"], options["vectors"]
    return [
        *uniform("bank", p["bank"], (vectors, length), 0.02),
        *normal("down", p["down"], (r, d_in // length, vectors), 0.1),
        *normal("up", p["up"], (r, d_out // length, vectors), 0.1),
    ]


ORACLES["vector_bank"] = Oracle(forward, init_laws, trained=frozenset({"bank", "down", "up"}))
