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

from properties.audit.report import Block, MutantRow

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
    """The figure as an <svg> element that scales, takes the page's colour, and says what it is to who cannot see it."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.05, metadata={"Date": None})
    body = text.getvalue()
    body = body[body.index("<svg") :].replace(INK, "currentColor")
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"font: [^;\"]*?(\d+(?:\.\d+)?)px [^;\"]*", r"font-size: \1px", body)
    # Several pictures stand on one page: their ids must not meet.
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{label}" ', body, count=1)


def heat_map(block: Block) -> str | None:
    """Identity error by base and adapter dtype, in eps of the base; a cell that fails is red, whatever its size."""
    if block.facts is None or not block.facts.dtype:
        return None
    cells = {(cell.base, cell.adapter): cell for cell in block.facts.dtype}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4, 2.5))
        axes = figure.add_subplot()
        shades: list[tuple[float, float, float, float]] = []
        grid = np.zeros((4, 4))
        for i, base in enumerate(DTYPES):
            for j, adapter in enumerate(DTYPES):
                cell = cells[base, adapter]
                grid[i, j] = len(shades)
                shades.append(_shade(cell.found.state, cell.eps))
                axes.text(j, i, _short(cell.eps), ha="center", va="center", fontsize=8.5)
        axes.imshow(grid, cmap=ListedColormap(shades), interpolation="nearest", vmin=0, vmax=15)
        _label(axes, "adapter", "base")
        return svg(figure, f"heat-{block.variant}", f"{block.variant}: identity error by dtype, in eps of the base dtype")


def _shade(state: str, eps: float | None) -> tuple[float, float, float, float]:
    colour = {"ok": GOOD, "fails": BAD}.get(state, IDLE)
    size = 0.0 if not eps or eps != eps else min(1.0, max(0.0, (log10(eps) + 1) / 6))
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue, 0.55 if state == "fails" else 0.12 + 0.35 * size


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
    """Mutants down, properties across: caught, survived, crashed; empty where the property does not run the changed code."""
    if not mutants:
        return None
    order = list(OUTCOMES)
    grid = np.array([[order.index(row.outcomes.get(claim, "unreached")) for claim in claims] for row in mutants])
    cell = 0.115
    with mpl.rc_context({**STYLE, "font.size": 6.5}):
        figure = Figure(figsize=(len(claims) * cell + 2, len(mutants) * cell + 2))
        axes = figure.add_subplot()
        axes.imshow(
            grid, cmap=ListedColormap(list(OUTCOMES.values())), vmin=-0.5, vmax=3.5, interpolation="none", aspect="equal"
        )
        axes.set_xticks(range(len(claims)), [claim.replace("_", " ") for claim in claims], rotation=90)
        axes.set_yticks(range(len(mutants)), [row.name for row in mutants])
        axes.set_xticks(np.arange(-0.5, len(claims)), minor=True)
        axes.set_yticks(np.arange(-0.5, len(mutants)), minor=True)
        axes.grid(which="minor", linewidth=0.2, color=IDLE, alpha=0.5)
        axes.tick_params(which="both", length=0, top=False, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        return svg(figure, "matrix", "Mutants by properties: which property catches which silent failure")


def growth(rows: Sequence[dict[str, Any]]) -> str | None:
    """Cost over the base layer as the layer widens, for each variant, with the quartiles."""
    rows = [row for row in rows if row.get("ratio") is not None]
    if not rows:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 3.6))
        axes = figure.add_subplot()
        for variant in dict.fromkeys(row["variant"] for row in rows):
            own = sorted((row for row in rows if row["variant"] == variant), key=lambda row: row["d"])
            axes.plot([row["d"] for row in own], [row["ratio"] for row in own], "o-", ms=3, lw=1.2, label=variant)
        axes.axhline(1.0, color=INK, lw=0.6, alpha=0.5)
        axes.set_xscale("log", base=2)
        axes.set_xlabel("width d")
        axes.set_ylabel("time, in times of the base layer")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, ncols=1, bbox_to_anchor=(1.01, 1), loc="upper left", labelcolor=INK)
        return svg(figure, "growth", "Cost of each variant as the layer grows")
