"""What came of one claim on one method: a record that travels from the test to whoever sums up."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

# Every example was as claimed.
HELD = "held"
# Some example was not.
BROKEN = "broken"
# The code under test raised what the claim did not ask for, or killed the process.
CRASHED = "crashed"
# By its nature the method has nothing that the claim is about.
NOT_APPLICABLE = "not applicable"
# It does not hold of the method, as that declares, with its reason.
DECLARED = "declared"
# The claim is about the method, and something is missing: an oracle, a package, a budget, the run.
NOT_JUDGED = "not judged"

# The parts of an adapter's life; a claim is about one of them, and the audit has a column for each.
STAGES = (
    *("init", "forward", "gradient", "save", "load", "merge", "attach", "detach"),
    *("scope", "calibration", "training", "engine", "refusal"),
)


@dataclass(frozen=True)
class Frame:
    """Of a stack: where a call stood when its process died."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f'  File "{self.file}", line {self.line} in {self.function}'


@dataclass(frozen=True)
class Outcome:
    """One record a claim and method.

    method    None where the claim is about the library as a whole
    why       of what is not held: the message, the exception, the signal, or what is missing
    tensor    the tensor or argument that was off, where the assertion that failed named one
    examples  how many were tried; budget: how many the run allows a claim with the whole share
    worst     by dtype, the largest error as a share of its bound; empty where equality or a fact is claimed
    replayed  a kept fixture was replayed, and nothing drawn
    shown     figures that the claim leaves for the audit, as JSON
    stack     of a process that died, the innermost frame first
    """

    claim: str
    method: str | None
    stage: str
    state: str
    why: str = ""
    tensor: str | None = None
    examples: int = 0
    budget: int = 0
    worst: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    recipe: str | None = None
    replay: str = ""
    nodeid: str = ""
    replayed: bool = False
    shown: dict[str, Any] = field(default_factory=dict)
    stack: list[Frame] = field(default_factory=list)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Outcome":
        """What to_json gave."""
        return cls(**values | {"stack": [Frame(**frame) for frame in values["stack"]]})

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which from_json makes the same record."""
        return asdict(self)

    @property
    def failed(self) -> bool:
        return self.state in (BROKEN, CRASHED)


class NotJudgedError(Exception):
    """A claim finds nothing to judge: says what is missing."""


class NothingComparedError(NotJudgedError):
    """Of something that is claimed no example had a number to compare."""


@dataclass(eq=False)
class Meter:
    """What a running claim measures: examples, and by dtype the worst error as a share of its bound.

    declared: why it breaks where the method declares that it does; "" where nothing is declared.
    compared: how many numbers, by the name of what is claimed, where one claim is about several.
    """

    examples: int = 0
    worst: dict[str, float] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)
    declared: str = ""
    compared: dict[str, int] = field(default_factory=dict)

    def idle(self) -> list[str]:
        """Of what no example had a number to compare."""
        return [name for name, count in self.compared.items() if count == 0]

    def insist(self) -> None:
        """Raises NothingComparedError, by name, where there is such a thing."""
        if idle := self.idle():
            told = f"no number was compared of {', '.join(idle)}, in {self.examples} examples"
            raise NothingComparedError(told)

    def refused(self, count: int) -> None:
        """So many of the examples were settings that the library does not take: they judge nothing."""
        if count:
            self.examples -= count
            self.shown["refused"] = count

    def note(self, dtype: str, share: float) -> None:
        """An error of this share of its bound was seen."""
        self.worst[dtype] = max(self.worst.get(dtype, 0.0), share)


_meters: list[Meter] = []


@contextmanager
def measuring(meter: Meter) -> Iterator[Meter]:
    """Every assertion inside reports its share of the bound to `meter`, and what is shown is kept there."""
    _meters.append(meter)
    try:
        yield meter
    finally:
        _meters.remove(meter)


def note(dtype: str, share: float) -> None:
    """Tell every meter that is running."""
    for meter in _meters:
        meter.note(dtype, share)


def show(**figures: Any) -> None:
    """Leave figures for the audit, as JSON, on the outcome of the claim that is running."""
    for meter in _meters:
        meter.shown |= figures


def tally(name: str, count: int) -> None:
    """So many numbers were compared here of what has this name: where there are none at all, not judged."""
    for meter in _meters:
        meter.compared[name] = meter.compared.get(name, 0) + count


def declare(why: str) -> None:
    """What the claim asks is declared not to be so, and nothing more than that could be seen."""
    for meter in _meters:
        meter.declared = why
