"""FourierFT, arXiv:2405.03003 equations 2 to 4: W' = W + alpha Re(IDFT2(F)).

F is zero but for n trained entries c. E (2, n): their rows and columns, drawn once for all layers. IDFT2 has
the factor 1 / (d_out d_in). options: alpha, n, init.
"""

import math

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, exactly, is_zero, never, normal

SOURCE = "paper"
TRAINS = ("c",)
LAWS = {"proportional_to": ("alpha",), "linear_in": ("c",), "apart_from_the_base": True}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """Each entry is a wave: c cos(2 pi (j k / d_out + l m / d_in))."""
    rows, columns = p["E"]
    j, k = (torch.arange(n).to(W) for n in W.shape)
    phase = torch.outer(rows.to(W), j)[:, :, None] / len(W) + torch.outer(columns.to(W), k)[:, None] / len(k)
    waves = p["c"][:, None, None] * torch.cos(2 * math.pi * phase)
    return W + options["alpha"] * waves.sum(0) / W.numel(), b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """Entries that are apart and in range; a standard normal spectrum, or none."""
    n, E = options["n"], p["E"].to(W)
    last = W.new_tensor([[len(W) - 1], [W.shape[1] - 1]])
    apart = torch.unique(E, dim=1).shape[1]
    laws = [
        exactly("the entries are distinct", W.new_tensor(apart), W.new_tensor(n)),
        never("an entry is out of range", torch.cat((-E, E - last))),
    ]
    return [*laws, *([is_zero("c", p["c"], (n,))] if options["init"] else normal("c", p["c"], (n,), 1.0))]
