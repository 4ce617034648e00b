"""The pictures, as SVG to be put into the page: transparent, and in the page's own text colour."""

import io
import re
from collections.abc import Sequence
from math import log10
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from properties.audit.report import Block
from properties.audit.sight import MutantRow

# Stands for the page's text colour, which the SVG takes from where it is put.
INK = "#010203"
GOOD, BAD, WARN, IDLE = "#2e9e6b", "#d6453d", "#c98a00", "#8a8f98"
DTYPES = ("float64", "float32", "float16", "bfloat16")
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lora-lite",
    "font.family": "sans-serif",
    "font.size": 9,
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
}


def svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an <svg> element that scales, takes the page's colour, and says what it is to who cannot
    see it.
    """
    text = io.StringIO()
    figure.savefig(
        text, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.05, metadata={"Date": None}
    )
    body = text.getvalue()
    body = body[body.index("<svg") :].replace(INK, "currentColor")
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"font: [^;\"]*?(\d+(?:\.\d+)?)px [^;\"]*", r"font-size: \1px", body)
    # Several pictures stand on one page: their ids must not meet.
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{label}" ', body, count=1)


def heat_map(block: Block) -> str | None:
    """Identity error by base and adapter dtype, in eps of the base; a cell that fails is red, whatever its
    size.
    """
    if not block.portrait.identity:
        return None
    cells = {(cell["base"], cell["adapter"]): cell for cell in block.portrait.identity}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4, 2.5))
        axes = figure.add_subplot()
        shades: list[tuple[float, float, float, float]] = []
        grid = np.zeros((4, 4))
        for i, base in enumerate(DTYPES):
            for j, adapter in enumerate(DTYPES):
                cell = cells[base, adapter]
                grid[i, j] = len(shades)
                shades.append(_shade(bool(cell["wrong"]), cell["eps"]))
                axes.text(j, i, _short(cell["eps"]), ha="center", va="center", fontsize=8.5)
        axes.imshow(grid, cmap=ListedColormap(shades), interpolation="nearest", vmin=0, vmax=15)
        _label(axes, "adapter", "base")
        return svg(
            figure,
            f"heat-{block.variant}",
            f"{block.variant}: identity error by dtype, in eps of the base dtype",
        )


def _shade(wrong: bool, eps: float | None) -> tuple[float, float, float, float]:
    colour = BAD if wrong else IDLE if eps is None else GOOD
    size = 0.0 if not eps or eps != eps else min(1.0, max(0.0, (log10(eps) + 1) / 6))
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue, 0.55 if wrong else 0.12 + 0.35 * size


def _short(eps: float | None) -> str:
    if eps is None:
        return "–"
    if eps == 0:
        return "0"
    return f"{eps:.1f}" if eps < 100 else f"{eps:.0e}".replace("e+0", "e").replace("e+", "e")


def _label(axes: Any, across: str, down: str) -> None:
    short = [dtype.replace("float", "f") for dtype in DTYPES]
    axes.set_xticks(range(4), short)
    axes.set_yticks(range(4), short)
    axes.set_xlabel(across)
    axes.set_ylabel(down)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


# A mutant that survives a property is no news; one that is caught is.
OUTCOMES = {"killed": GOOD, "survived": f"{IDLE}50", "crashed": WARN, "unreached": "#00000000"}


def matrix(mutants: Sequence[MutantRow], claims: Sequence[str]) -> str | None:
    """Mutants down, properties across: caught, survived, crashed; empty where the property was not run."""
    if not mutants:
        return None
    order = list(OUTCOMES)
    grid = np.array(
        [[order.index(row.outcomes.get(claim, "unreached")) for claim in claims] for row in mutants]
    )
    cell = 0.115
    with mpl.rc_context({**STYLE, "font.size": 6.5}):
        figure = Figure(figsize=(len(claims) * cell + 2, len(mutants) * cell + 2))
        axes = figure.add_subplot()
        axes.imshow(
            grid,
            cmap=ListedColormap(list(OUTCOMES.values())),
            vmin=-0.5,
            vmax=3.5,
            interpolation="none",
            aspect="equal",
        )
        axes.set_xticks(range(len(claims)), [claim.replace("_", " ") for claim in claims], rotation=90)
        axes.set_yticks(range(len(mutants)), [row.name for row in mutants])
        # As lines: ticks of a grid take ten times as long to draw.
        down, across = len(mutants) - 0.5, len(claims) - 0.5
        axes.hlines(np.arange(-0.5, down + 1), -0.5, across, linewidth=0.2, color=IDLE, alpha=0.5)
        axes.vlines(np.arange(-0.5, across + 1), -0.5, down, linewidth=0.2, color=IDLE, alpha=0.5)
        axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        return svg(figure, "matrix", "Mutants by properties: which property catches which silent failure")


GROWS = {"d": "width d", "r": "rank r", "tokens": "tokens", "layers": "layers"}


def growth(rows: Sequence[dict[str, Any]]) -> str | None:
    """Cost over the base layer as one size grows and the others stay, a panel for each size, with the slope
    of each line.
    """
    panels = {size: found for size in GROWS if (found := _series(rows, size))}
    if not panels:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 3.4 * len(panels)), layout="constrained")
        for axes, (size, series) in zip(
            figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True
        ):
            variants = list(dict.fromkeys(variant for variant, _ in series))
            for (variant, by), points in series.items():
                x, y, low, high = np.array(points).T
                slope = np.polyfit(np.log(x), np.log(y), 1)[0]
                style: Any = {
                    "color": f"C{variants.index(variant) % 10}",
                    "linestyle": "-" if by == "lora_lite" else "--",
                }
                axes.plot(x, y, marker="o", ms=3, lw=1.2, label=f"{variant} {by} {slope:+.2f}", **style)
                axes.fill_between(x, low, high, color=style["color"], alpha=0.12, lw=0)
            axes.axhline(1.0, color=INK, lw=0.6, alpha=0.5)
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted({at for points in series.values() for at, *_ in points}))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel(GROWS[size])
            axes.set_ylabel("times the base layer")
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize=8, bbox_to_anchor=(1.01, 1), loc="upper left", labelcolor=INK)
        return svg(figure, "growth", "Cost of each variant as the layer grows")


def _series(rows: Sequence[dict[str, Any]], size: str) -> dict[tuple[str, str], list[tuple[float, ...]]]:
    """By variant and subject the longest run of rows that differ in this size alone: size, ratio and
    quartiles.
    """
    groups: dict[tuple[Any, ...], dict[float, tuple[float, ...]]] = {}
    fixed = [name for name in (*GROWS, "dtype", "threads", "phase") if name != size]
    for row in rows:
        key = row["variant"], row["implementation"], *(row.get(name) for name in fixed)
        if size in row:
            groups.setdefault(key, {})[row[size]] = (row[size], row["ratio"], row["q1"], row["q3"])
    longest: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for (variant, by, *_), points in groups.items():
        if len(points) > max(1, len(longest.get((variant, by), ()))):
            longest[variant, by] = [points[at] for at in sorted(points)]
    return longest
