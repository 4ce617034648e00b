"""AdaLoRA, arXiv:2303.10512 equation 3: W' = W + s B diag(E) A, s = alpha / r, with the paper's P, Lambda, Q.

A (r, d_in), B (d_out, r), E (r, 1). r is the rank that is left after pruning. options: alpha (0 stands for
r), offset: authors' code and peft divide by r + 1e-5, init.

Looked up: accounts of the paper, not the paper, have W + P Lambda Q, Lambda zero and P, Q normal at init.
"""

from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, exactly, is_zero, normal

SOURCE = "paper"
TRAINS = ("A", "B", "E")
LAWS = {
    "linear_in": ("A", "B", "E"),
    "any_order_of": {"A": 0, "B": 1, "E": 0},
    "unchanged_by": {"A": 1, "E": -1},
    "inputs": {"A": 1},
    "outputs": {"B": 0},
    "apart_from_the_base": True,
}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """r (1,) is a buffer, since pruning changes it."""
    s = (options["alpha"] or len(p["A"])) / (p["r"] + options["offset"])
    return W + s * p["B"] @ (p["E"] * p["A"]), b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """E is zero, A and B are normal; the rank is the initial one."""
    if not options["init"]:
        return []
    (d_out, d_in), r = W.shape, options["r"]
    rank = exactly("r", p["r"], p["r"].new_tensor([r]))
    random = [*normal("A", p["A"], (r, d_in), 0.02), *normal("B", p["B"], (d_out, r), 0.02)]
    return [rank, *random, is_zero("E", p["E"], (r, 1))]
