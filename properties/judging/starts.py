"""Laws of how the tensors of an adapter start, and of where its gradient stops."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from properties.judging.differences import difference
from properties.judging.law_kinds import Check, Compared, Draw
from properties.judging.layer_function import LayerFunction
from properties.judging.outcome import declare
from properties.judging.stops import holding, stops_of
from properties.judging.tolerance import claim_bound
from properties.oracles.laws import Law, exactly, is_identity, kaiming, never
from strategies import gaussian

# A slope that is known so well tells whether a gradient is it.
CLEAR = 0.01


def starts(f: LayerFunction, words: Mapping[str, Any], draw: Draw) -> Iterator[Compared]:
    for name, word in words.items():
        if name in f.initial:
            yield from map(_compared, _laws(f, name, word))


def _compared(law: Law) -> Compared:
    error = torch.as_tensor(claim_bound(law.magnitude, torch.float64)).expand_as(law.got)
    return Compared(law.name, law.got, law.wanted, error, "so at init")


def _laws(f: LayerFunction, name: str, word: Any) -> list[Law]:
    """word: a number, the name of a setting or of another tensor, or one of SAID and WORDS."""
    t = f.initial[name]
    if word in SAID:
        return SAID[word](f, name, t)
    if word in WORDS:
        wanted = WORDS[word](f)
        return [Law(f"{name} = {word}", t, wanted, wanted.abs())]
    if word in f.initial:
        return [exactly(f"{name} = {word}", t, f.initial[word])]
    value = float(f.options[word] if isinstance(word, str) else word)
    return [Law(f"{name} = {word}", t, torch.full_like(t, value), 0.0)]


def _uniform(f: LayerFunction, name: str, t: Tensor) -> list[Law]:
    return kaiming(name, t, tuple(t.shape), t.shape[-1])


def _pairs(f: LayerFunction, name: str, t: Tensor) -> list[Law]:
    drawn = kaiming(name, t, tuple(t.shape), t.shape[-1], independent=t.numel() // 2)
    distinct = t.new_tensor(float(len(torch.unique(t, dim=0))))
    return [
        exactly(f"rows of {name} come in pairs", t[0::2], t[1::2]),
        exactly(f"the pairs of {name} are distinct", distinct, t.new_tensor(len(t) / 2)),
        *drawn,
    ]


def _orthonormal(f: LayerFunction, name: str, t: Tensor) -> list[Law]:
    return [is_identity(f"rows of {name} are orthonormal", t @ t.mT)]


def _principal(f: LayerFunction, name: str, t: Tensor) -> list[Law]:
    """Of the inputs, less their mean: the directions along which they vary most."""
    if f.inputs is None:
        return []
    centred = f.inputs - f.inputs.mean(0)
    C = centred.mT @ centred / len(centred)
    most = torch.linalg.eigvalsh(C).flip(0)[: len(t)]
    size = most[0] + f.inputs.mean(0).norm() * most[0].clamp(min=0).sqrt()
    along = Law(f"C {name}^T = {name}^T diag(the largest variances)", C @ t.mT, t.mT * most, size)
    return [*_orthonormal(f, name, t), along]


# What is to be said of a tensor, and what it is.
SAID: dict[str, Callable[[LayerFunction, str, Tensor], list[Law]]] = {
    "uniform": _uniform,
    "uniform pairs": _pairs,
    "orthonormal rows": _orthonormal,
    "principal directions": _principal,
}
WORDS: dict[str, Callable[[LayerFunction], Any]] = {
    "row norms": lambda f: f.W.norm(dim=1),
    "column norms": lambda f: f.W.norm(dim=0),
    "weight": lambda f: f.W,
    "bias": lambda f: f.b,
}


def starts_as_svd(f: LayerFunction, names: tuple[str, ...], draw: Draw) -> Iterator[Compared]:
    """Of the weight: (B, A), s B A balanced, or (U, S, Vh); the largest triplets where no data chose."""
    yield from map(_compared, _balanced(f, *names) if len(names) == 2 else _triplets(f, *names))


def _balanced(f: LayerFunction, left: str, right: str) -> list[Law]:
    B, A, s = f.initial[left], f.initial[right], f.options["alpha"] / f.options["r"]
    sigma = torch.linalg.svdvals(f.W)
    S = s * (A @ A.mT).diagonal()
    size = sigma[0] * (sigma[0] / s).sqrt()
    residuals = f.W @ A.mT - B * S, f.W.mT @ B - A.mT * S
    least = min(residuals, key=lambda residual: float(residual.abs().max()))
    laws = [
        Law(f"s {right} {right}^T is diagonal", s * A @ A.mT, S.diag(), sigma[0]),
        Law(f"s {left}^T {left} = s {right} {right}^T", s * B.mT @ B, S.diag(), sigma[0]),
        Law(f"{left} and {right} are pairs of singular vectors", least, torch.zeros_like(least), size),
        never("singular values are no larger than the weight's", S - sigma[: len(S)], sigma[0]),
    ]
    # A randomised decomposition finds them nearly.
    exact = f.options.get("niter") is None
    return [*laws, Law("the largest singular values", S, sigma[: len(S)], sigma[0])] if exact else laws


def _triplets(f: LayerFunction, left: str, values: str, right: str) -> list[Law]:
    U, S, Vh = f.initial[left], f.initial[values], f.initial[right]
    sigma = torch.linalg.svdvals(f.W)
    laws = [
        is_identity(f"columns of {left} are orthonormal", U.mT @ U),
        is_identity(f"rows of {right} are orthonormal", Vh @ Vh.mT),
        Law(f"W {right}^T = {left} diag({values})", f.W @ Vh.mT, U * S, sigma[0]),
        Law(f"W^T {left} = {right}^T diag({values})", f.W.mT @ U, Vh.mT * S, sigma[0]),
    ]
    return (
        laws
        if f.inputs is not None
        else [*laws, Law("the largest singular values", S, sigma[: len(S)], sigma[0])]
    )


def stops_before(f: LayerFunction, given: Any, draw: Draw) -> Iterator[Compared]:
    """Of each tensor, the gradient as if what the named method gives were a constant.

    Where no method is named nothing can be compared: it is not that of the output, and so it is declared.
    """
    stops = {n: stop for n, stop in stops_of({"stops_before": given}, f.owner).items() if n in f.tensors}
    x, tensors = draw.x(f), {n: t.clone().requires_grad_(n in stops) for n, t in f.tensors.items()}
    upstream = gaussian(draw.seed, "law upstream", (len(x), len(f.W)), torch.float64)

    def terms() -> Tensor:
        return f.compute(x, f.W, f.b, tensors, f.options) * upstream

    found = torch.autograd.grad(terms().sum(), [tensors[n] for n in stops], allow_unused=True)
    for (name, stop), gradient in zip(stops.items(), found, strict=True):
        direction = draw.like(f"along {name}", tensors[name].detach())
        slope = x.new_zeros(()) if gradient is None else (gradient * direction).sum()
        with holding(stop, terms) as held:
            wanted = difference(held, tensors[name], direction)
        if stop.owner is not None:
            what, like = f"the gradient of {name}", f"that of the output with {stop.method} a constant"
            yield Compared(what, slope, wanted.value, wanted.error, like)
            continue
        close = (slope - wanted.value).abs() <= wanted.error and wanted.error <= CLEAR * slope.abs()
        told = f"whether the gradient of {name} is that of the output"
        yield Compared(told, torch.tensor(float(close)), torch.tensor(0.0), torch.tensor(0.5), "no")
        declare(f"the gradient of {name} stops, and no method is named that gives what is constant for it")


def trains(f: LayerFunction, names: tuple[str, ...], draw: Draw) -> Iterator[Compared]:
    wanted = {name for name in names if name in f.tensors}
    told = f"how many of {', '.join(sorted(wanted ^ f.trained))} train or do not"
    yield Compared(
        told, torch.tensor(float(len(wanted ^ f.trained))), torch.tensor(0.0), torch.tensor(0.5), "0"
    )


KINDS: dict[str, Check] = {
    "trains": trains,
    "starts": starts,
    "starts_as_svd": starts_as_svd,
    "stops_before": stops_before,
}
