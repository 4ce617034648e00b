"""WaveFT, arXiv:2505.12532 equation 3: W' = W + s IDWT2(F), F zero but for n trained entries.

E (2, n): rows and columns of the entries; F is padded by one where a width is odd. Haar wavelets: F's
quarters are the average and the details along rows, columns and both. options: s, n, transform (False: F
itself), init.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, exactly, is_zero, normal

SOURCE = "paper"
TRAINS = ("c",)
LAWS = {"proportional_to": ("s",), "linear_in": ("c",), "apart_from_the_base": True}


def haar(F: Tensor) -> Tensor:
    """(2 h, 2 w) -> (2 h, 2 w), orthonormal."""
    (average, across), (down, both) = (half.chunk(2, 1) for half in F.chunk(2, 0))
    out = torch.zeros_like(F)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        signs = (-1) ** i, (-1) ** j
        out[i::2, j::2] = (average + signs[0] * across + signs[1] * down + signs[0] * signs[1] * both) / 2
    return out


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """Entries of an odd width sit in the first rows and columns."""
    d_out, d_in = W.shape
    F = W.new_zeros(d_out + d_out % 2, d_in + d_in % 2)
    F = F.index_put((p["E"][0], p["E"][1]), p["c"])
    update = haar(F) if options["transform"] else F
    return W + options["s"] * update[:d_out, :d_in], b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """n distinct entries; zero, or a normal of deviation 0.01."""
    n = options["n"]
    apart = W.new_tensor(torch.unique(p["E"], dim=1).shape[1])
    laws = [exactly("the entries are distinct", apart, W.new_tensor(n))]
    return [*laws, *([is_zero("c", p["c"], (n,))] if options["init"] else normal("c", p["c"], (n,), 0.01))]
