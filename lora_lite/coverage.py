"""What of a model an adapter is on, what it trains, and what was left alone: what a handle shows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from torch import nn

from lora_lite.inventory import output_head
from lora_lite.linear import is_linear, linear_shape
from lora_lite.names import CHILD, base_modules, base_parameters
from lora_lite.spec import Variant

# Of the layers that were left alone, in text.
SHOWN = 6


@dataclass(frozen=True)
class Row:
    """Layers that are alike: their name with * for numbers, how many, their shape and their rank."""

    name: str
    count: int
    shape: str
    rank: int | None


@dataclass(frozen=True)
class Coverage:
    """An adapter on a model in figures.

    trained  numbers of the adapter that require a gradient
    base     numbers of the base; adapted: those of them in layers that carry this adapter
    left     the layers without any adapter, by name, and why
    """

    variant: str
    rows: list[Row]
    trained: int
    base: int
    adapted: int
    left: Mapping[str, str]

    @property
    def title(self) -> str:
        layers = sum(row.count for row in self.rows)
        return f"{self.variant} on {layers} layer{'' if layers == 1 else 's'}"

    @property
    def figures(self) -> str:
        return (
            f"trains {self.trained:,} numbers, {_share(self.trained, self.base)} of the base's {self.base:,};"
            f" its layers hold {_share(self.adapted, self.base)}"
        )

    def text(self) -> str:
        lines = [f"Adapter({self.title}: {self.figures})"]
        width = max((len(row.name) for row in self.rows), default=0)
        for row in self.rows:
            rank = "" if row.rank is None else f"  r={row.rank}"
            lines.append(f"  {row.name:{width}}  {row.count:3} × {row.shape}{rank}")
        if self.left:
            named = [f"{name} ({why})" for name, why in grouped(self.left).items()]
            more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
            lines.append(f"  left alone: {', '.join(named[:SHOWN])}{more}")
        return "\n".join(lines)

    def html(self) -> str:
        head = "<tr><th>layer</th><th>how many</th><th>shape</th><th>rank</th></tr>"
        rows = "".join(
            f"<tr><td><code>{escape(row.name)}</code></td><td>{row.count}</td><td>{escape(row.shape)}</td>"
            f"<td>{'' if row.rank is None else row.rank}</td></tr>"
            for row in self.rows
        )
        left = "".join(
            f"<tr><td><code>{escape(name)}</code></td><td>{escape(why)}</td></tr>"
            for name, why in grouped(self.left).items()
        )
        told = f"<details><summary>{len(self.left)} left alone</summary><table>{left}</table></details>"
        title = f"<b>{escape(self.title)}</b>: {escape(self.figures)}"
        return f"<div><p>{title}</p><table>{head}{rows}</table>{told if self.left else ''}</div>"


def coverage(model: nn.Module, variant: str, layers: Mapping[str, Variant], carriers: Any) -> Coverage:
    """Of an adapter: its modules by target, and the layers that carry them."""
    rows: dict[tuple[str, str, int | None], list[str]] = {}
    for name, module in layers.items():
        shape = f"{module.shape.d_in} → {module.shape.d_out}"
        rows.setdefault((_pattern(name), shape, module.config.r), []).append(name or "the model itself")
    held = {parameter for layer in carriers for parameter in layer._parameters.values()}
    base = [parameter for _, parameter in base_parameters(model)]
    return Coverage(
        variant=variant,
        rows=[
            Row(name if len(own) > 1 else own[0], len(own), shape, rank)
            for (name, shape, rank), own in rows.items()
        ],
        trained=sum(p.numel() for module in layers.values() for p in module.parameters() if p.requires_grad),
        base=sum(parameter.numel() for parameter in base),
        adapted=sum(parameter.numel() for parameter in base if parameter in held),
        left=left_alone(model),
    )


def left_alone(model: nn.Module) -> dict[str, str]:
    """The modules with a matrix of their own that no adapter is on, by name, and why."""
    head = output_head(model)
    return {
        name: "the output head" if module is head else _reason(module)
        for name, module in base_modules(model)
        if CHILD not in module._modules and _dimensions(module) > 1
    }


def _dimensions(module: nn.Module) -> int:
    """Of its largest parameter; 0 where it has none of its own."""
    return max((p.dim() for p in module._parameters.values() if p is not None), default=0)


def _reason(module: nn.Module) -> str:
    if is_linear(module):
        shape = linear_shape(module)
        return f"{shape.d_in} → {shape.d_out}, not selected"
    dims, what = _dimensions(module), type(module).__name__
    return f"{what}, no linear layer" if dims == 2 else f"{what}, weights of {dims} dimensions"


def grouped(named: Mapping[str, str]) -> dict[str, str]:
    """The same with one entry for names that differ in numbers alone, and how many they are."""
    counts: dict[tuple[str, str], list[str]] = {}
    for name, why in named.items():
        counts.setdefault((_pattern(name), why), []).append(name)
    return {
        (own[0] if len(own) == 1 else f"{len(own)} × {pattern}"): why
        for (pattern, why), own in counts.items()
    }


def _pattern(name: str) -> str:
    return re.sub(r"(?<![^.])\d+(?![^.])", "*", name)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3g} %" if whole else "nothing"
