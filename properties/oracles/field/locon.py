"""LoRA in LyCORIS, arXiv:2309.14859 section 3.1: W' = W + s c B A, or with a magnitude as in DoRA, m V / |V|.

c is a trained scalar, where there is one. m is a norm of rows, (d_out, 1), or of columns, (1, d_in), through
which gradients flow. options: r, alpha, rs, axis of the norm, init "zero" (of B) or "scalar" (of c).
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Laws, Options, Tensors, decomposed, is_zero, kaiming, scale

SOURCE = "paper"
TRAINS = ("A", "B", "c", "m")


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """V = W + s c B A."""
    V = W + scale(options) * p.get("c", torch.ones(()).to(W)) * p["B"] @ p["A"]
    return (decomposed(V, p["m"], options["axis"]) if "m" in p else V), b


def laws(p: Tensors, options: Options) -> Laws:
    """With a magnitude, those of its norm; without, those of the update."""
    common = {"any_order_of": {"A": 0, "B": 1}, "unchanged_by": {"A": 1, "B": -1}}
    if "m" in p:
        return {**common, "norms_are": {"rows" if options["axis"] == -1 else "columns": "m"}}
    update = {"proportional_to": ("alpha",), "linear_in": ("A", "B", "c"), "rank": 1}
    return {**common, **update, "inputs": {"A": 1}, "outputs": {"B": 0}, "apart_from_the_base": True}


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """A is kaiming-uniform; B, or the scalar, is zero; m is the norm of W."""
    (d_out, d_in), r = W.shape, options["r"]
    laws = kaiming("A", p["A"], (r, d_in), d_in)
    if "m" in p:
        norms: Tensor = torch.linalg.vector_norm(W, dim=options["axis"], keepdim=True)
        laws.append(Law("m = norms of W", p["m"], norms, norms))
    if options["init"] == "scalar":
        return [*laws, *kaiming("B", p["B"], (d_out, r), r), is_zero("c", p["c"], ())]
    return [*laws, is_zero("B", p["B"], (d_out, r))]
