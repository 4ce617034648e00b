"""The verdict table: variants by properties, each cell with its examples and its worst error as a share of tolerance."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """One property on one variant, in so many seconds. examples is None where the property does not hold.

    worst: by dtype, the largest error as a share of its tolerance; empty where equality is claimed.
    """

    claim: str
    variant: str
    examples: int | None
    worst: dict[str, float]
    seconds: float = 0.0

    @property
    def cell(self) -> str:
        """ "60 · 0.31": examples run and worst share of tolerance; "60 · =" where equality was claimed and found."""
        if self.examples is None:
            return "FAILS"
        return f"{self.examples} · {max(self.worst.values()):.2f}" if self.worst else f"{self.examples} · ="


def table(measured: list[Measured]) -> str:
    """A Markdown table, properties down and variants across, with the examples that one process ran in a second."""
    variants = list(dict.fromkeys(m.variant for m in measured))
    cells = {(m.claim, m.variant): m.cell for m in measured}
    rows = [["property", *variants, "examples/s"]]
    for name in dict.fromkeys(m.claim for m in measured):
        cells_of = [cells.get((name, variant), "") for variant in variants]
        rows.append([name.replace("_", " "), *cells_of, _rate([m for m in measured if m.claim == name])])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([*lines, "", *_verdicts(measured, variants)])


def _rate(measured: list[Measured]) -> str:
    seconds = sum(m.seconds for m in measured if m.examples is not None)
    return f"{sum(m.examples or 0 for m in measured) / seconds:.0f}" if seconds else ""


def _verdicts(measured: list[Measured], variants: list[str]) -> list[str]:
    failing = {v: [m.claim for m in measured if m.variant == v and m.examples is None] for v in variants}
    lines = [f"{v}: BUGGY ({', '.join(names)})" for v, names in failing.items() if names]
    right = [v for v, names in failing.items() if not names]
    if right:
        lines.append(f"{', '.join(right)}: every property holds")
    examples = sum(m.examples or 0 for m in measured)
    return [
        *lines,
        "",
        f"A cell: examples run · worst error as a share of its tolerance (=: equality claimed). {examples} examples.",
    ]
