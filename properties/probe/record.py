"""What a claim of the probe found, as the table, the tests and the audit print it."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Relation = Literal["≤", ">"]


@dataclass(frozen=True)
class Record:
    """One figure of one claim: `value` must stand in `relation` to `bound`.

    why: where both come from, and what was worst.
    """

    claim: str
    variant: str
    model: str
    value: float
    relation: Relation
    bound: float
    why: str

    @property
    def raised(self) -> bool:
        """The claim ended in an error of the library's: loud, and no figure."""
        return self.claim.endswith(": raised")

    @property
    def holds(self) -> bool:
        """False where the value is not a number."""
        if math.isnan(self.value) or math.isnan(self.bound):
            return False
        return self.value <= self.bound if self.relation == "≤" else self.value > self.bound

    def __str__(self) -> str:
        return f"{self.claim}: got {self.value:.4g}, wanted {self.relation} {self.bound:.4g} ({self.why})"


def to_json(records: Iterable[Record]) -> list[dict[str, Any]]:
    """The records as plain values, `holds` included."""
    return [
        {**asdict(r), "value": _printed(r.value), "bound": _printed(r.bound), "holds": r.holds}
        for r in records
    ]


def _printed(value: float) -> float | None:
    """As the table prints it; null for what is no number in JSON."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def table(records: Iterable[Record]) -> str:
    """Markdown, one line a figure, failed ones marked."""
    rows = [("", "claim", "model", "variant", "got", "wanted", "why")]
    for r in records:
        mark = "ok" if r.holds else "FAILS"
        rows.append(
            (mark, r.claim, r.model, r.variant, f"{r.value:.4g}", f"{r.relation} {r.bound:.4g}", r.why)
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
