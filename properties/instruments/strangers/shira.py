"""SHiRA, arXiv:2406.13175 section 3: a few entries of W learn, those of a mask that is drawn once."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.spec import zeros
from properties.instruments.strangers.shared import Unranked, positions
from properties.oracles import ORACLES, Law, Oracle
from properties.oracles.laws import is_zero, linear


@dataclass(frozen=True, kw_only=True)
class SHiRAConfig(Unranked):
    """Settings of SHiRA: how many entries learn, and the seed of the mask."""

    variant: ClassVar[str] = "shira"
    n: int = ll.option(4, values=(4, 1), wrong=(None, 0, 1.5))
    seed: int = ll.option(0, values=(0, 5), wrong=(None, -1, 0.5))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_whole("n", 1)
        self.require_whole("seed", 0)


@ll.register
class SHiRA(ll.Variant):
    """SHiRA: Sparse High Rank Adapters.

        y = x (W + S)ᵀ + b        S holds values at places drawn from the seed, and 0

    Tensors:
        values  (n,)  trained  starts at 0

    Reference: section 3 of the paper, the random mask.
    Identity at init: values = 0, bit for bit.
    First step: values learn.
    Deviations: the mask is drawn anew from its seed at each call, as a tensor of indices is not of the
    adapter's dtype.
    """

    name = "shira"
    config_class = SHiRAConfig
    reference = ll.Reference(
        arxiv="2406.13175",
        titles=(
            "Sparse High Rank Adapters",
            "Rapid Switching and Multi-Adapter Fusion via Sparse High Rank Adapters",
        ),
    )

    values: Tensor

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: SHiRAConfig) -> dict[str, ll.ParamSpec]:
        return {"values": ll.ParamSpec((config.n,), zeros, first_gradient="nonzero")}

    @classmethod
    def check(cls, shape: ll.LinearShape, config: SHiRAConfig) -> None:
        if config.n > shape.d_in * shape.d_out:
            raise ll.ConfigError(f"shira: {shape}, wanted at least n = {config.n} entries")

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        size = (self.shape.d_out, self.shape.d_in)
        places = positions(self.config.seed, self.config.n, size).to(x.device)
        update = self.values.new_zeros(size[0] * size[1]).index_put((places,), self.values)
        return y + F.linear(x.to(update.dtype), update.view(size))


def forward(x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Any, p0: Any, options: Any) -> Tensor:
    """Entry by entry."""
    y = linear(x, W, b, e)
    size = (W.shape[-2], W.shape[-1])
    for i, place in enumerate(positions(options["seed"], options["n"], size).tolist()):
        row, column = divmod(place, W.shape[-1])
        one = W.new_zeros(W.shape[-2])
        one[row] = 1
        y = y + x[..., column, None] * p["values"][..., i, None, None] * one
    return y


def init_laws(W: Tensor, b: Tensor | None, p: Any, options: Any, inputs: Tensor | None) -> list[Law]:
    return [is_zero("values", p["values"], (options["n"],))]


ORACLES["shira"] = Oracle(forward, init_laws, trained=frozenset({"values"}))
