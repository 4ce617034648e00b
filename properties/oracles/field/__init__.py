"""Float64 references of methods that other libraries have, and that lora_lite has not: one file each.

All tensors are float64, without leading dimensions. A module states

    SOURCE    where the formula is from: "paper", "documentation" or "code" of the library, read for facts
    READING   options that the paper decides where libraries differ
    TRAINS    the symbols that learn; the others are frozen
    adapted   (W, b, p, options) -> (W', b'), the adapted layer x W'^T + b', or, where it is not affine in x,
    forward   (x, W, b, p, options) -> y
              "initial A" is what the symbol A was at init
    init_laws (W, b, p, options) -> what holds right after init; [] where none is known for these options
    LAWS      what the formula keeps, as data (see judging/laws.py), or, where tensors and options decide,
    laws      (p, options) -> the same

The header has the paper with its equation, the meaning of each option, and where a library departs. Papers
are from memory; what was compared with a text says "Looked up", and with which.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import NamedTuple

from torch import Tensor

from properties.oracles import ORACLES, Forward, InitLaws
from properties.oracles.laws import Law, Laws, Options, Tensors, linear

SOURCES = ("paper", "documentation", "code")


class Formula(NamedTuple):
    """The reference of one method: an oracle as ours are, with its source and what trains.

    affine: the adapted layer is a linear one, which can be merged. text: the header of its file. reading:
    options that the paper decides.
    """

    forward: Forward
    init_laws: InitLaws
    source: str
    trains: tuple[str, ...]
    laws: Callable[[Tensors, Options], Laws]
    affine: bool
    text: str
    reading: Options = MappingProxyType({})


# Of lora_lite's own oracles: what trains. Their formulas are from the papers.
OURS = {
    "lora": ("A", "B"),
    "pissa": ("A", "B"),
    "dora": ("A", "B", "m"),
    "delora": ("A", "B", "lambda_"),
    "ia3": ("offset",),
    "ia3_ff": ("offset",),
    "hra": ("U",),
    "eva": ("A", "B"),
}


def _forward(module: ModuleType) -> Forward:
    direct: Callable[..., Tensor] | None = getattr(module, "forward", None)

    def forward(
        x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Tensors, p0: Tensors, options: Options
    ) -> Tensor:
        start = {f"initial {name}": tensor.detach() for name, tensor in p0.items()}
        if direct is not None:
            return direct(x, W, b, {**start, **p}, options) + e
        adapted, bias = module.adapted(W, b, {**start, **p}, options)
        return linear(x, adapted, bias, e)

    return forward


def _init_laws(module: ModuleType) -> InitLaws:
    def init_laws(
        W: Tensor, b: Tensor | None, p: Tensors, options: Options, inputs: Tensor | None
    ) -> list[Law]:
        found: list[Law] = module.init_laws(W, b, p, options)
        return found

    return init_laws


def _laws(module: ModuleType) -> Callable[[Tensors, Options], Laws]:
    found: Callable[[Tensors, Options], Laws] | None = getattr(module, "laws", None)
    return found or (lambda p, options: module.LAWS)


def _of_ours(name: str, trains: tuple[str, ...]) -> Formula:
    """Where lora_lite keeps a frozen copy A0 of what A was at init, others need none."""
    forward, laws = ORACLES[name].forward, ORACLES[name].init_laws

    def init_laws(
        W: Tensor, b: Tensor | None, p: Tensors, options: Options, inputs: Tensor | None
    ) -> list[Law]:
        return laws(W, b, {**{f"{symbol}0": t for symbol, t in p.items()}, **p}, options, inputs)

    text = inspect.getdoc(inspect.getmodule(forward)) or ""
    # What it keeps, lora_lite's own variant declares.
    return Formula(forward, init_laws, "paper", trains, lambda p, options: {}, True, text)


def _formulas() -> dict[str, Formula]:
    found = {name: _of_ours(name, trains) for name, trains in OURS.items()}
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        module = import_module(f"{__name__}.{path.stem}")
        found[path.stem] = Formula(
            _forward(module),
            _init_laws(module),
            module.SOURCE,
            module.TRAINS,
            _laws(module),
            hasattr(module, "adapted"),
            inspect.getdoc(module) or "",
            getattr(module, "READING", {}),
        )
    return found


FORMULAS = _formulas()
