"""The laws that a method may declare: each from what is declared to results that are to be the same."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from properties.judging.layer_function import LayerFunction
from properties.judging.tolerance import Bounded
from strategies import gaussian

# What components are scaled by: no power of two alone, which no rounding shows.
FACTORS = (0.5, 3.0, 1.7, 2.0)
# As far as a tensor's size may be from its own: powers of two, which no rounding shows.
SIZES = (2.0**-30, 2.0**30)
# A rank that the method may have is looked for so far above the layer's own.
MORE = 8


class Compared(NamedTuple):
    """Two results that a law says are the same, and how far apart rounding may take them."""

    what: str
    got: Tensor
    wanted: Tensor
    error: Tensor
    like: str


Check = Callable[[LayerFunction, Any, "Draw"], Iterator[Compared]]


@dataclass(eq=False)
class Draw:
    """What the laws of one layer are tried with: numbers from a seed, and its own output, computed once."""

    seed: int
    kept: Bounded | None = None

    def like(self, name: str, tensor: Tensor) -> Tensor:
        """Numbers of the tensor's shape, about as large as its own."""
        size = tensor.double().square().mean().sqrt() if tensor.numel() else 0.0
        return gaussian(self.seed, f"law {name}", tuple(tensor.shape), torch.float64) * (size or 1.0)

    def x(self, f: LayerFunction) -> Tensor:
        return gaussian(self.seed, "law x", (3, f.W.shape[1]), torch.float64)

    def plain(self, f: LayerFunction) -> Bounded:
        """f.output(x) of the layer as it is."""
        self.kept = self.kept or f.output(self.x(f))
        return self.kept

    def added(self, f: LayerFunction) -> Bounded:
        """f.added(x) of the layer as it is."""
        y = self.plain(f)
        return Bounded(y.value - F.linear(self.x(f), f.W, f.b), y.error)

    def order(self, name: str, size: int) -> Tensor:
        """Of so many things, never as they were where there are two or more."""
        found = gaussian(self.seed, f"law order {name}", (size,)).argsort()
        return found if not torch.equal(found, torch.arange(size)) else found.roll(1)

    def factors(self, name: str, size: int) -> Tensor:
        start = self.seed + len(name)
        return torch.tensor([FACTORS[(start + i) % len(FACTORS)] for i in range(size)], dtype=torch.float64)


def same(what: str, got: Bounded, wanted: Bounded, like: str) -> Compared:
    return Compared(what, got.value, wanted.value, got.error + wanted.error, like)


def times(factor: float, one: Bounded) -> Bounded:
    return Bounded(factor * one.value, abs(factor) * one.error)


def proportional_to(f: LayerFunction, names: tuple[str, ...], draw: Draw) -> Iterator[Compared]:
    x = draw.x(f)
    for name in names:
        if f.options.get(name) is not None:
            g = f.but(options={name: 3.0 * f.options[name]})
            if not g.fits():
                return
            what = f"what is added with 3 {name}"
            yield same(what, g.added(x), times(3.0, draw.added(f)), f"3 times what is added with {name}")


def _affine(f: LayerFunction, name: str, draw: Draw) -> Compared:
    x, t = draw.x(f), f.tensors[name]
    one, other = draw.like(f"{name} 1", t), draw.like(f"{name} 2", t)
    there, a, b = (f.but({name: at}).output(x) for at in (t + one + other, t + one, t + other))
    here = draw.plain(f)
    error = there.error + here.error + a.error + b.error
    like = f"f({name} + u) + f({name} + v)"
    return Compared(
        f"f({name} + u + v) + f({name})", there.value + here.value, a.value + b.value, error, like
    )


def affine_in(f: LayerFunction, names: tuple[str, ...], draw: Draw) -> Iterator[Compared]:
    for name in names:
        if name in f.tensors:
            yield _affine(f, name, draw)


def linear_in(f: LayerFunction, names: tuple[str, ...], draw: Draw) -> Iterator[Compared]:
    for name in names:
        if name in f.tensors:
            nothing = f.but({name: torch.zeros_like(f.tensors[name])}).added(draw.x(f))
            zero = torch.zeros_like(nothing.value)
            yield Compared(f"what is added with {name} = 0", nothing.value, zero, nothing.error, "zero")
            yield _affine(f, name, draw)


def _of(f: LayerFunction, axes: Mapping[str, int]) -> dict[str, int]:
    """The axes of the tensors that are there, and of what they were at init."""
    return {n: axes[n.removeprefix("initial ")] for n in f.tensors if n.removeprefix("initial ") in axes}


def any_order_of(f: LayerFunction, axes: Mapping[str, int], draw: Draw) -> Iterator[Compared]:
    here = _of(f, axes)
    size = min((f.tensors[n].shape[axis] for n, axis in here.items()), default=0)
    if size > 1:
        turned = {
            n: f.tensors[n].index_select(axis, draw.order("components", size)) for n, axis in here.items()
        }
        x = draw.x(f)
        yield same(
            "the output with components in another order", f.but(turned).output(x), draw.plain(f), "as before"
        )


def _rescaled(f: LayerFunction, r: int) -> dict[str, Any]:
    """The settings with another rank and the same alpha / r."""
    changed: dict[str, Any] = {"r": r}
    if f.options.get("alpha"):
        share = r / f.options["r"]
        changed["alpha"] = f.options["alpha"] * (share**0.5 if f.options.get("rs") else share)
    return changed


def one_more_zero(f: LayerFunction, axes: Mapping[str, int], draw: Draw) -> Iterator[Compared]:
    here, r, x = _of(f, axes), f.options["r"], draw.x(f)
    for more in range(1, MORE):
        grown = {}
        for n, axis in here.items():
            t = f.tensors[n].movedim(axis, 0)
            at = draw.seed % (len(t) + 1)
            grown[n] = torch.cat((t[:at], t.new_zeros(more, *t.shape[1:]), t[at:])).movedim(0, axis)
        g = f.but(grown, _rescaled(f, r + more))
        if g.fits():
            what = f"the output with {more} components of zero more"
            yield same(what, g.output(x), draw.plain(f), "as before")
            return


def unchanged_by(f: LayerFunction, powers: Any, draw: Draw, axes: Mapping[str, int]) -> Iterator[Compared]:
    """axes: where tensors have their components, which then have a factor each."""
    x = draw.x(f)
    for each in (powers,) if isinstance(powers, Mapping) else powers:
        there = {n: power for n, power in each.items() if n in f.tensors}
        apart = all(n in axes for n in there)
        scaled = {}
        for n, power in there.items():
            t = f.tensors[n].movedim(axes[n] if apart else 0, -1)
            c = draw.factors("c", t.shape[-1] if apart else 1)
            scaled[n] = (t * c**power).movedim(-1, axes[n] if apart else 0)
        told = " and ".join(f"{n} times c^{power}" for n, power in each.items())
        yield same(f"the output with {told}", f.but(scaled).output(x), draw.plain(f), "as before")


def any_size(f: LayerFunction, names: tuple[str, ...], draw: Draw) -> Iterator[Compared]:
    """Where a length is divided out, what is added to it or floors it shows on the smallest."""
    x = draw.x(f)
    for name in names:
        for factor in SIZES if name in f.tensors else ():
            told = f"the output with {name} times {factor:.0e}"
            yield same(told, f.but({name: factor * f.tensors[name]}).output(x), draw.plain(f), "as before")


def inputs(f: LayerFunction, axes: Mapping[str, int], draw: Draw) -> Iterator[Compared]:
    x, order = draw.x(f), draw.order("inputs", f.W.shape[1])
    turned = {n: f.tensors[n].index_select(axis, order) for n, axis in _of(f, axes).items()}
    g = f.but(turned, W=f.W[:, order])
    yield same(
        "the output with the inputs in another order", g.output(x[:, order]), draw.plain(f), "as before"
    )


def outputs(f: LayerFunction, axes: Mapping[str, int], draw: Draw) -> Iterator[Compared]:
    x, order = draw.x(f), draw.order("outputs", f.W.shape[0])
    turned = {n: f.tensors[n].index_select(axis, order) for n, axis in _of(f, axes).items()}
    got = f.but(turned, W=f.W[order], b=None if f.b is None else f.b[order]).output(x)
    y = draw.plain(f)
    wanted = Bounded(y.value[:, order], y.error[:, order])
    yield same("the output with the outputs in another order", got, wanted, "that, in this order")


def apart_from_the_base(f: LayerFunction, always: bool, draw: Draw) -> Iterator[Compared]:
    x = draw.x(f)
    other = None if f.b is None else draw.like("b", f.b)
    g = f.but(W=draw.like("W", f.W), b=other)
    yield same("what is added to another base", g.added(x), draw.added(f), "what is added to this one")


def in_place_of_the_base(f: LayerFunction, always: bool, draw: Draw) -> Iterator[Compared]:
    x = draw.x(f)
    g = f.but(W=draw.like("W", f.W), b=None if f.b is None else draw.like("b", f.b))
    yield same("the output on another base", g.output(x), draw.plain(f), "that on this one")


def sees_the_output_alone(f: LayerFunction, always: bool, draw: Draw) -> Iterator[Compared]:
    if f.b is not None:
        x, y = draw.x(f)[:1], draw.plain(f)
        g = f.but(W=f.W + f.b[:, None] * x / x.square().sum(), b=torch.zeros_like(f.b))
        what = "the output where the weight gives what the bias gave"
        yield same(what, g.output(x), Bounded(y.value[:1], y.error[:1]), "as before")


def composed_of(f: LayerFunction, axes: Mapping[str, int], draw: Draw) -> Iterator[Compared]:
    here, r, x = _of(f, axes), f.options["r"], draw.x(f)
    sizes = {f.tensors[n].shape[axis] for n, axis in here.items()}
    for first in range(1, r):
        if sizes != {r}:
            return
        parts = [
            f.but({n: f.tensors[n].narrow(axis, start, size) for n, axis in here.items()}, _rescaled(f, size))
            for start, size in ((0, first), (first, r - first))
        ]
        if all(part.fits() for part in parts):
            W = parts[0].weight()
            got, wanted = parts[1].but(W=W.value).output(x), draw.plain(f)
            error = got.error + wanted.error + (x.abs() @ W.error.mT) * 2
            like = "that of all components"
            yield Compared(
                f"the last {r - first} components on what the first {first} made",
                got.value,
                wanted.value,
                error,
                like,
            )
            return


def repeated(f: LayerFunction, axes: Mapping[str, int], draw: Draw) -> Iterator[Compared]:
    doubled = {n: torch.cat((f.tensors[n],) * 2, axis) for n, axis in _of(f, axes).items()}
    g, x = f.but(doubled, {"r": 2 * f.options["r"]}), draw.x(f)
    if g.fits():
        yield same("the output with each component twice", g.output(x), draw.plain(f), "as before")


def bias_apart(f: LayerFunction, always: bool, draw: Draw) -> Iterator[Compared]:
    if f.b is not None:
        x = draw.x(f)
        y, bare = draw.plain(f), f.but(b=torch.zeros_like(f.b)).output(x)
        yield same(
            "the output", y, Bounded(bare.value + f.b, bare.error), "that without a bias, and the bias"
        )


KINDS: dict[str, Check] = {
    "repeated": repeated,
    "bias_apart": bias_apart,
    "proportional_to": proportional_to,
    "linear_in": linear_in,
    "affine_in": affine_in,
    "any_order_of": any_order_of,
    "one_more_zero": one_more_zero,
    "any_size": any_size,
    "inputs": inputs,
    "outputs": outputs,
    "apart_from_the_base": apart_from_the_base,
    "in_place_of_the_base": in_place_of_the_base,
    "sees_the_output_alone": sees_the_output_alone,
    "composed_of": composed_of,
}
