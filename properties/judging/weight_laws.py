"""Laws of the weight that an adapted layer amounts to."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from properties.judging.law_kinds import Check, Compared, Draw
from properties.judging.layer_function import LayerFunction


def rank(f: LayerFunction, most: int, draw: Draw) -> Iterator[Compared]:
    W = f.weight()
    rest = torch.linalg.svdvals(W.value - f.W)[most * f.options["r"] :]
    error = W.error.norm().expand_as(rest)
    what = f"the change's singular values beyond the {most * f.options['r']} largest"
    yield Compared(what, rest, torch.zeros_like(rest), error, "zero")


def norm_within(f: LayerFunction, names: tuple[str, ...], draw: Draw) -> Iterator[Compared]:
    W = f.weight()
    strength = torch.stack([f.tensors[n].abs().sum() for n in names if n in f.tensors]).sum()
    excess = ((W.value - f.W).norm() - strength * f.W.norm(dim=0).max()).relu()
    like = f"within {' + '.join(names)} times W's largest column norm"
    yield Compared("the norm of the change", excess, torch.zeros_like(excess), W.error.norm(), like)


def _cosines(W: Tensor) -> Tensor:
    unit = F.normalize(W, dim=1, eps=torch.finfo(W.dtype).tiny)
    return unit @ unit.mT


MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "singular values": torch.linalg.svdvals,
    "row norms": partial(torch.linalg.vector_norm, dim=1),
    "column norms": partial(torch.linalg.vector_norm, dim=0),
    "row angles": _cosines,
    "column angles": lambda W: _cosines(W.mT),
}


def keeps(f: LayerFunction, measures: Any, draw: Draw) -> Iterator[Compared]:
    for name in measures:
        # Of some, where tensors that change it are zero.
        zero = measures[name] if isinstance(measures, Mapping) else ()
        W = f.but({n: torch.zeros_like(f.tensors[n]) for n in zero}).weight()
        got, wanted = MEASURES[name](W.value), MEASURES[name](f.W)
        error = W.error.norm()
        if "angles" in name:
            rows = f.W if name == "row angles" else f.W.mT
            norms = rows.norm(dim=1)
            error = 2 * error / norms.clamp(min=torch.finfo(norms.dtype).tiny)
            error = error[:, None] + error[None, :]
        yield Compared(f"the {name} of the weight", got, wanted, error.expand_as(got), "what they were")


def norms_are(f: LayerFunction, names: Mapping[str, str], draw: Draw) -> Iterator[Compared]:
    W = f.weight()
    for axis, name in names.items():
        dim = 1 if axis == "rows" else 0
        wanted, error = f.tensors[name].abs().flatten(), W.error.norm(dim=dim)
        got = W.value.norm(dim=dim)
        yield Compared(f"the norms of the weight's {axis}", got, wanted, error + wanted * 1e-16, f"|{name}|")


def norm_is(f: LayerFunction, names: Mapping[str, tuple[str, ...]], draw: Draw) -> Iterator[Compared]:
    """Of each tensor, where those behind it are zero."""
    for name, others in names.items():
        zero = {n: torch.zeros_like(f.tensors[n]) for n in others if n in f.tensors}
        W = f.but(zero).weight()
        got, wanted = (W.value - f.W).norm(), f.tensors[name].norm()
        yield Compared("the norm of the change", got, wanted, W.error.norm(), f"that of {name}")


KINDS: dict[str, Check] = {
    "rank": rank,
    "norm_within": norm_within,
    "norm_is": norm_is,
    "keeps": keeps,
    "norms_are": norms_are,
}
