"""VeRA, arXiv:2310.11454 equation 2: W' = W + diag(b) B diag(d) A, B and A frozen.

All layers share B and A. lambda_b (d_out,), lambda_d (r,). A layer narrower than the shared matrices takes
their first rows and columns. options: r, d_initial, init.
"""

from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, he, is_constant, is_zero

SOURCE = "paper"
CHECKED = (
    "peft's documentation (A and B are shared, and sliced) and accounts of the paper, not the paper itself:"
    " diag(b) B diag(d) A, at init b is zero, d a constant, A and B Kaiming-uniform"
)
TRAINS = ("lambda_b", "lambda_d")


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
