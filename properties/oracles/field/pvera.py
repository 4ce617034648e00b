"""PVeRA, arXiv:2512.07703 section 3: VeRA whose A x is a mean and a log-variance.

At inference it is the mean alone. A (2 r, d_in) and lambda_d (2 r,): the first half is the mean's. The other
half has no effect, and no gradient, where nothing is sampled. options: as vera's.
"""

from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, he, is_constant, is_zero

SOURCE = "paper"
TRAINS = ("lambda_b", "lambda_d")
LAWS = {
    "linear_in": ("lambda_b", "lambda_d"),
    "unchanged_by": {"lambda_b": 1, "lambda_d": -1},
    "rank": 1,
    "apart_from_the_base": True,
}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """Of the means."""
    (d_out, d_in), r = W.shape, options["r"]
    B, A = p["B"][:d_out], p["A"][:r, :d_in]
    return W + p["lambda_b"].diag() @ B @ p["lambda_d"][:r].diag() @ A, b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """As VeRA."""
    (d_out, d_in), r = W.shape, options["r"]
    frozen = [*he("A", p["A"], (2 * r, d_in)), *he("B", p["B"], (d_out, r))]
    if not options["init"]:
        return frozen
    trained = is_constant("lambda_d", p["lambda_d"], (2 * r,), options["d_initial"])
    return [*frozen, trained, is_zero("lambda_b", p["lambda_b"], (d_out,))]
