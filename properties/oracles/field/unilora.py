"""Uni-LoRA, arXiv:2506.00799 section 3: LoRA whose entries are all drawn from one trained vector theta (d,).

A = theta[i_A] n_A and B likewise: the map from theta is a random projection with one entry in each row, and
columns of norm 1, so n is 1 / sqrt(how often that entry is used). options: r, d, bound, init.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, normal, uniform

SOURCE = "paper"
TRAINS = ("theta",)
LAWS = {"rank": 1, "apart_from_the_base": True}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """No scale."""
    A, B = (p["theta"][p[f"i_{x}"]] * p[f"n_{x}"] for x in "AB")
    return W + B @ A, b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """The projection is isometric: each entry's squares add up to 1, or to nothing where it is not used."""
    d = options["d"]
    indices, norms = (torch.cat([p[f"{n}_A"].flatten(), p[f"{n}_B"].flatten()]) for n in "in")
    sums = W.new_zeros(d).index_add(0, indices, norms**2)
    used = W.new_zeros(d).index_fill(0, indices, 1.0)
    laws = [Law("columns of the projection have norm 1", sums, used, 1.0)]
    if not options["init"]:
        return [*laws, *normal("theta", p["theta"], (d,), 1.0)]
    return [*laws, *uniform("theta", p["theta"], (d,), options["bound"])]
