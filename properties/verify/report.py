"""What is found out about an adapter: faults and remarks with their layers, a row a layer, the verdict."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

ACTS, DOES_NOT, CANNOT = 0, 1, 2


class CannotJudgeError(Exception):
    """Nothing can be said of the adapter: no base, no package, no text. The message says what to do."""


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know.

    kind    what it is, one of a few words for who reads the JSON
    text    a sentence without the layers
    layers  those concerned; () where it is about the whole
    fault   whether the adapter does not act as it claims; a remark has no say in the verdict
    """

    kind: str
    text: str
    layers: tuple[str, ...] = ()
    fault: bool = True


@dataclass(frozen=True)
class Fit:
    """A merged weight: how often it holds the adapter's change, wanted once, and by how much it is off
    besides, in roundings of its dtype; each with its bound.
    """

    times: float
    bound: float
    rest: float
    most: float


@dataclass
class Row:
    """One adapted layer.

    effect   ‖change‖ / ‖output‖ of the layer, with all adapters on; None where nothing called it
    alone    the same of the model's output, where this layer's adapter is the only one; None likewise
    calls    how often the text had it called
    merged   what a merged checkpoint holds here; None where none was looked at
    """

    layer: str
    effect: float | None = None
    alone: float | None = None
    calls: int = 0
    merged: Fit | None = None


@dataclass
class Report:
    """All that was found.

    about   what was judged, on what, by name
    change  ‖change‖ / ‖output‖ of the model, with all of the adapter on
    """

    about: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    change: float | None = None

    def fault(self, kind: str, text: str, layers: Iterable[str] = ()) -> None:
        self._find(Finding(kind, text, tuple(layers)))

    def remark(self, kind: str, text: str, layers: Iterable[str] = ()) -> None:
        self._find(Finding(kind, text, tuple(layers), fault=False))

    def _find(self, found: Finding) -> None:
        """The same of other layers is one finding."""
        for i, one in enumerate(self.findings):
            if (one.kind, one.text, one.fault) == (found.kind, found.text, found.fault):
                self.findings[i] = replace(one, layers=tuple(dict.fromkeys((*one.layers, *found.layers))))
                return
        self.findings.append(found)

    @property
    def faults(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.fault]

    @property
    def code(self) -> int:
        """The exit code."""
        return DOES_NOT if self.faults else ACTS

    @property
    def verdict(self) -> str:
        """One sentence."""
        count = f"{len(self.rows)} layer" + "s" * (len(self.rows) != 1)
        if not self.faults:
            moved = "" if self.change is None else f", and move the model's output by {percent(self.change)}"
            return f"ACTS: {count} act" + "s" * (len(self.rows) == 1) + f"{moved}."
        kinds: dict[str, set[str]] = {}
        for finding in self.faults:
            kinds.setdefault(finding.kind, set()).update(finding.layers)
        told = "; ".join(f"{kind}{self._count(layers)}" for kind, layers in kinds.items())
        return f"DOES NOT ACT AS IT CLAIMS: {told}."

    def _count(self, layers: set[str]) -> str:
        if not layers:
            return ""
        adapted = layers <= {row.layer for row in self.rows}
        return f" ({len(layers)} of {len(self.rows)} layers)" if adapted else f" ({len(layers)})"

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "verdict": self.verdict,
            "about": self.about,
            "change": _json(self.change),
            "findings": [vars(finding) for finding in self.findings],
            "layers": [{name: _json(value) for name, value in asdict(row).items()} for row in self.rows],
        }


def _json(value: Any) -> Any:
    """JSON has no NaN and no infinity: as text."""
    if isinstance(value, dict):
        return {name: _json(inner) for name, inner in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def percent(share: float) -> str:
    """A share of one as a person reads it: "0.031 %", "12 %", "140 %", "23 ×", "exactly 0"."""
    if share == 0:
        return "exactly 0"
    if share < 1:
        return f"{100 * share:.2g} %"
    return f"{100 * share:.0f} %" if share < 10 else f"{share:.3g} ×"
