"""RoAd, arXiv:2409.00119 equation 2: y' = R y, y = W x + b, R of scaled rotations of pairs of outputs.

In a group of g outputs the i-th is paired with the (i + g / 2)-th. Row i of R has alpha cos(theta) at i and ∓
alpha sin(theta) at its partner, minus in the first half. kind: which of the angles and scales are shared:
"road_1" by the pair, "road_2" by the row, "road_4" by neither. options: kind, g, init.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_constant, is_zero, normal

SOURCE = "paper"
TRAINS = ("theta", "alpha")
LAWS = {"affine_in": ("alpha",), "inputs": {}, "sees_the_output_alone": True}


def spread(t: Tensor, kind: str, g: int) -> tuple[Tensor, Tensor]:
    """For the cosines and for the sines, of each row (d_out,)."""
    if kind == "road_1":
        t = t.reshape(-1, 1, g // 2).expand(-1, 2, -1).flatten()
    elif kind == "road_4":
        first, second = t.reshape(-1, 2, g).unbind(1)
        return first.flatten(), second.flatten()
    return t, t


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """R W and R b."""
    d_out, g = len(W), options["g"]
    cosine, sine = spread(p["theta"], options["kind"], g)
    alpha, beta = spread(p["alpha"], options["kind"], g)
    i = torch.arange(d_out)
    first = i % g < g // 2
    partner = torch.where(first, i + g // 2, i - g // 2)
    sign = torch.where(first, -1.0, 1.0).to(W)
    R = torch.diag(alpha * cosine.cos()).index_put((i, partner), sign * beta * sine.sin(), accumulate=True)
    return R @ W, None if b is None else R @ b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """No angle, scale 1; as many as the kind has."""
    shape = (len(W) * {"road_1": 1, "road_2": 2, "road_4": 4}[options["kind"]] // 2,)
    if not options["init"]:
        return normal("theta", p["theta"], shape, 0.5)
    return [is_zero("theta", p["theta"], shape), is_constant("alpha", p["alpha"], shape, 1.0)]
