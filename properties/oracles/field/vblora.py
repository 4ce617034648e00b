"""VB-LoRA, arXiv:2405.15179 equations 3 and 4: LoRA whose A and B are made of a bank of vectors.

Each piece of a row of A (column of B) is the softmax of its k largest logits times their vectors, no scale.
logits_A (r, d_in / v, h), logits_B (d_out / v, r, h), bank (h, v). options: k, deviation and bound of the
init.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, normal, uniform

SOURCE = "paper"
TRAINS = ("logits_A", "logits_B", "bank")
LAWS = {"any_order_of": {"logits_A": 0, "logits_B": 1}, "rank": 1, "apart_from_the_base": True}


def pieces(logits: Tensor, bank: Tensor, k: int) -> Tensor:
    """(..., h) -> (..., v)."""
    least = logits.sort(dim=-1, descending=True).values[..., k - 1 : k]
    weights = torch.where(logits >= least, logits, -torch.inf).softmax(-1)
    return weights @ bank


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """W + B A."""
    A = pieces(p["logits_A"], p["bank"], options["k"]).flatten(1)
    B = pieces(p["logits_B"], p["bank"], options["k"]).transpose(1, 2).flatten(0, 1)
    return W + B @ A, b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """Normal logits, a uniform bank."""
    logits = [
        law
        for name in ("logits_A", "logits_B")
        for law in normal(name, p[name], tuple(p[name].shape), options["deviation"])
    ]
    return [*logits, *uniform("bank", p["bank"], tuple(p["bank"].shape), options["bound"])]
