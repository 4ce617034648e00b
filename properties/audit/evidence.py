"""What a run left behind, as it was gathered and before anybody judged it."""

from dataclasses import dataclass, field
from typing import Any

from properties.audit.report import SpeedSource, SuiteFailure
from properties.audit.sight import MatrixSource
from properties.judging.outcome import Outcome
from properties.mutation.matrix import Row


@dataclass(frozen=True)
class Speed:
    """What python -m properties.speed --json wrote."""

    rows: list[dict[str, Any]]
    of: SpeedSource
    costs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Matrix:
    """Every claim under every mutant, and where that was measured."""

    rows: list[Row]
    of: MatrixSource


@dataclass
class Evidence:
    """What a run left behind, whole or not.

    outcomes  as the tests left them, several of one claim and method where fixtures were replayed
    failures  tests of the suite itself that did not pass
    rows      of each mutant what was tried until its first kills, or, with --matrix, every claim
    matrix    a whole matrix, of this run or another; None where there is none
    records   what else tests left, by kind
    skipped   why, by test
    narrowed  the options that left tests out, "" where everything ran
    """

    outcomes: list[Outcome] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    failures: list[SuiteFailure] = field(default_factory=list)
    records: dict[str, list[Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    speed: Speed | None = None
    matrix: Matrix | None = None
    tests: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    narrowed: str = ""
