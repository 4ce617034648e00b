"""VeRA, arXiv:2310.11454 equation 2: W' = W + diag(b) B diag(d) A, B and A frozen.

All layers share B and A. lambda_b (d_out,), lambda_d (r,). A layer narrower than the shared matrices takes
their first rows and columns. options: r, d_initial, init.

Looked up: peft's documentation of VeRA has how narrower layers take their part of A and B;
accounts of the paper, not the paper, have the formula, b zero and d a constant at init, A and B Kaiming's.
"""

from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, he, is_constant, is_zero

SOURCE = "paper"
TRAINS = ("lambda_b", "lambda_d")
LAWS = {
    "linear_in": ("lambda_b", "lambda_d"),
    "unchanged_by": {"lambda_b": 1, "lambda_d": -1},
    "any_order_of": {"A": 0, "B": 1, "lambda_d": 0},
    "rank": 1,
    "apart_from_the_base": True,
}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """Two vectors learn."""
    d_out, d_in = W.shape
    B, A = p["B"][:d_out], p["A"][:, :d_in]
    return W + p["lambda_b"].diag() @ B @ p["lambda_d"].diag() @ A, b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """Section 3.3: b is zero, d is d_initial, A and B are He's uniform."""
    (d_out, d_in), r = W.shape, options["r"]
    frozen = [
        law for name, shape in (("A", (r, d_in)), ("B", (d_out, r))) for law in he(name, p[name], shape)
    ]
    if not options["init"]:
        return frozen
    trained = is_constant("lambda_d", p["lambda_d"], (r,), options["d_initial"])
    return [*frozen, trained, is_zero("lambda_b", p["lambda_b"], (d_out,))]
