"""What a run left behind, as it was gathered and before anybody judged it."""

from dataclasses import dataclass, field
from typing import Any

from properties.audit.report import Failure, Measured, SpeedSource
from properties.mutation.matrix import Row


@dataclass(frozen=True)
class Speed:
    """What python -m properties.speed --json wrote."""

    rows: list[dict[str, Any]]
    of: SpeedSource


@dataclass
class Evidence:
    """What a run left behind, whole or not.

    ran: claims by variant (None: the library); passed, failed: tests by their id.
    """

    measured: list[Measured] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    records: dict[str, list[Any]] = field(default_factory=dict)
    ran: set[tuple[str, str | None]] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)
    speed: Speed | None = None
    tests: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
