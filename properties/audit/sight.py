"""What the checks can see, as plain data: claims by the failures they catch, and what nothing looks at."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Worth:
    """What one claim is good for.

    noise, signal: by dtype, in tolerances; tolerance: whether the two are far apart.

    The signal is that of the faintest mutant, of those that do not hide in the dtype.

    tried    under how many mutants it ran; where under none, kills and alone say nothing
    dtypes   the tolerance's verdict in each dtype; "hidden": some mutants are faint there, and clear in
             another dtype
    hidden   which, by dtype
    """

    claim: str
    text: str
    tried: int
    kills: list[str]
    alone: list[str]
    noise: dict[str, float]
    signal: dict[str, float]
    faintest: str | None
    tolerance: str
    dtypes: dict[str, str]
    hidden: dict[str, list[str]]
    examples: int
    seconds: float
    earns: str


@dataclass(frozen=True)
class MutantRow:
    """One silent failure. applies_to: of its variants those that this run judges; outcomes: killed, survived
    or crashed, of each claim that was run under it.
    """

    name: str
    breaks: str
    models: str
    applies_to: list[str]
    outcomes: dict[str, str]
    killers: list[str]
    survives_on: list[str]
    first_kill: dict[str, Any] | None
    seconds: float


@dataclass(frozen=True)
class MatrixSource:
    """Where a whole matrix was measured.

    file: "" for this run. same: on the lora_lite that is judged here.
    """

    file: str
    made: str
    same: bool


@dataclass(frozen=True)
class Score:
    """Of one kind of mutants ("named", "generic", "interface") how many were noticed.

    loud        an exception or an endless loop, which nobody overlooks
    equivalent  nothing can notice, by its reason in mutation/known.txt or the catalogue
    survivors   what should be noticed, with what is known of the claim that would; told: all in one line
    """

    kind: str
    killed: int
    loud: int
    survived: int
    equivalent: int
    survivors: dict[str, str]
    told: str


@dataclass(frozen=True)
class Mutation:
    """What this run injected.

    wanted   mutants of the catalogue that must be caught on the judged variants
    rows     those that were injected; caught: on all of these variants
    why      there are others
    scores   by kind of mutant, where this run has any
    matrix   where every claim was tried under every one of them; None where each was tried to its first kill
    """

    wanted: int
    rows: int
    caught: int
    why: str
    scores: list[Score]
    matrix: MatrixSource | None


@dataclass(frozen=True)
class FileCoverage:
    """How much of one file of lora_lite ran under the tests; missing: what never did, as "12", "14-16" or
    "20→24".
    """

    path: str
    lines: int
    lines_run: int
    branches: int
    branches_run: int
    missing: list[str]


@dataclass(frozen=True)
class Gaps:
    """What nothing looks at.

    untouched: functions of lora_lite that no mutant changes, as "path:line name".
    """

    files: list[FileCoverage]
    untouched: list[str]
    functions: int
    why: str = ""

    @property
    def share(self) -> float | None:
        """Lines and branches that ran, of all; None where this run cannot tell, and why says so."""
        if self.why:
            return None
        total = sum(f.lines + f.branches for f in self.files)
        return sum(f.lines_run + f.branches_run for f in self.files) / total if total else None


@dataclass(frozen=True)
class ProbeClaim:
    """One assertion of the training probe over all variants and models: the figure that comes nearest to its
    bound, or misses it by most.

    wanted: relation and bound, as "> 0.12"; where the bound is what noise gives, it is the noise floor.
    """

    claim: str
    catches: str
    holds: int
    measured: int
    got: float | None
    wanted: str
    where: str
    why: str
