"""LoHa, arXiv:2108.06098 proposition 1: W' = W + s (A1 B1) ∘ (A2 B2), s = alpha / r.

A1, A2 (d_out, r) are the paper's X1, X2, and B1, B2 (r, d_in) its Y1^T, Y2^T; s is that of LyCORIS,
arXiv:2309.14859 section 3. c is a trained scalar in front, m a magnitude over an axis as DoRA's. options: r,
alpha, rs (alpha / sqrt(r)), axis; init: "normal" and "scalar" as in LyCORIS, True as in peft, False: none is
zero.

Looked up: documentation of sd-scripts, which has LyCORIS's LoHa, has the product of products, as
have LyCORIS's own and a review of the paper, with the rank of up to r^2.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Laws, Options, Tensors, decomposed, is_zero, kaiming, normal, scale

SOURCE = "paper"
TRAINS = ("A1", "B1", "A2", "B2", "c", "m")


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """A product entry by entry of two low-rank matrices, of rank up to r^2."""
    s = scale(options) * p.get("c", torch.ones(()).to(W))
    V = W + s * (p["A1"] @ p["B1"]) * (p["A2"] @ p["B2"])
    return (decomposed(V, p["m"], options["axis"]) if "m" in p else V), b


def laws(p: Tensors, options: Options) -> Laws:
    """With a magnitude, that of its norm; without, those of the update."""
    order = {"any_order_of": {"A1": 1, "B1": 0}, "unchanged_by": ({"A1": 1, "A2": -1}, {"B1": 1, "B2": -1})}
    if "m" in p:
        return {**order, "norms_are": {"rows" if options["axis"] == -1 else "columns": "m"}}
    update = {"linear_in": ("A1", "B1", "A2", "B2", "c"), "apart_from_the_base": True}
    return {**order, **update, "inputs": {"B1": 1, "B2": 1}, "outputs": {"A1": 0, "A2": 0}}


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """One of the four is zero: A2 among normal ones in LyCORIS, B2 among uniform ones in peft, or none."""
    (d_out, d_in), r = W.shape, options["r"]
    outer, inner = (d_out, r), (r, d_in)
    if options["init"] in ("normal", "scalar"):
        first = [*normal("A1", p["A1"], outer, 0.1), *normal("B1", p["B1"], inner, 1.0)]
        first += normal("B2", p["B2"], inner, 1.0)
        if options["init"] == "scalar":
            return [*first, *normal("A2", p["A2"], outer, 0.1), is_zero("c", p["c"], ())]
        return [*first, is_zero("A2", p["A2"], outer)]
    first = [*kaiming("A1", p["A1"], outer, r), *kaiming("B1", p["B1"], inner, d_in)]
    A2 = kaiming("A2", p["A2"], outer, r)
    if options["init"]:
        return [*first, *A2, is_zero("B2", p["B2"], inner)]
    return [*first, *A2, *kaiming("B2", p["B2"], inner, d_in)]
