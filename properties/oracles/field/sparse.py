"""Sparse entries of the weight: SHiRA, arXiv:2406.13175 section 3, and Super and Supra, arXiv:2607.09287.

W' = W + S + s B A, S zero but for the trained values v at the entries E (2, n), B and A where there is a
rank. options: n; largest: E are the n entries of W that are largest in size, or smallest (False), or any
(None); r and alpha where there is a rank; init.
"""

import torch
from torch import Tensor

from properties.oracles.laws import (
    Law,
    Laws,
    Options,
    Tensors,
    exactly,
    is_zero,
    kaiming,
    never,
    normal,
    scale,
)

SOURCE = "documentation"
TRAINS = ("v", "A", "B")


def laws(p: Tensors, options: Options) -> Laws:
    """Entries that are picked by their size are others on another base."""
    apart = {"apart_from_the_base": True} if options.get("largest") is None else {}
    return {"affine_in": ("v", "A", "B"), **apart}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """The support is frozen."""
    S = torch.zeros_like(W).index_put((p["E"][0].long(), p["E"][1].long()), p["v"])
    return (W + S + scale(options) * p["B"] @ p["A"] if "A" in p else W + S), b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """As many distinct entries as were asked for, of the size that was asked for; zero."""
    n, E, share = len(p["v"]), p["E"].long(), options["n"](*W.shape)
    laws = [
        exactly("the entries are distinct", W.new_tensor(torch.unique(E, dim=1).shape[1]), W.new_tensor(n)),
        never("as many entries as were asked for", W.new_tensor(abs(n - share) - 1), 1.0),
    ]
    if options["largest"] is not None:
        picked, sign = W[E[0], E[1]].abs(), 1 if options["largest"] else -1
        ranked = W.abs().flatten().sort(descending=options["largest"]).values
        laws.append(never("a picked entry is beyond the limit", sign * (ranked[n - 1] - picked)))
    laws += [is_zero("v", p["v"], (n,))] if options["init"] else normal("v", p["v"], (n,), 1.0)
    if "A" in p and options["init"]:
        r = options["r"]
        laws += [*kaiming("A", p["A"], (r, W.shape[1]), W.shape[1]), is_zero("B", p["B"], (len(W), r))]
    return laws
