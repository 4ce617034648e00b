"""The report as plain data: what audit.json holds and every renderer reads. Nothing here judges or
formats.
"""

import json
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).parent / "schema.json"

# What a column of the summary can say, and what a variant can be.
OK, PARTLY, FAILS, UNMEASURED, NO_REFERENCE = "ok", "partly", "fails", "not measured", "no reference"
CORRECT, PARTIAL, BUGGY = "CORRECT", "PARTIAL", "BUGGY"


@dataclass(frozen=True)
class Finding:
    """One measured statement.

    figure: the worst error as a share of its tolerance; None where equality or a fact is claimed.
    """

    state: str
    figure: float | None = None
    why: str = ""


@dataclass(frozen=True)
class TensorFact:
    """One tensor of a fresh adapter: as its ParamSpec declares it, and as it was found."""

    name: str
    shape: list[int]
    dtype: str
    kind: str
    declared: str
    measured: str
    norm: float | None
    found: Finding


@dataclass(frozen=True)
class InitFact:
    """One claim of the oracle about what init left."""

    claim: str
    found: Finding


@dataclass(frozen=True)
class DtypeFact:
    """The identity of a fresh adapter in one pair of dtypes; eps: its error in eps of the base at the
    output's size.
    """

    base: str
    adapter: str
    eps: float | None
    found: Finding


@dataclass(frozen=True)
class Facts:
    """What is measured of one variant on fixed cases, beside its properties.

    An empty list: not measured in this run.
    """

    variant: str
    case: str
    identity: str
    params: list[TensorFact] = field(default_factory=list)
    init: list[InitFact] = field(default_factory=list)
    dtype: list[DtypeFact] = field(default_factory=list)
    forward: Finding = Finding(UNMEASURED, None, "not measured in this run")
    gradient: Finding = Finding(UNMEASURED, None, "not measured in this run")
    round_trip: Finding = Finding(UNMEASURED, None, "not measured in this run")


@dataclass(frozen=True)
class Link:
    """One reference and what opening it gave: OK, WRONG TITLE, GONE, MATCH, DRIFT or UNCHECKED."""

    variants: list[str]
    kind: str
    what: str
    url: str
    status: str
    why: str = ""


@dataclass(frozen=True)
class ReferenceFact:
    """Where the formula comes from. verdict: HAS_REFERENCE or NO_REFERENCE."""

    verdict: str
    severity: str
    arxiv: str | None = None
    titles: list[str] = field(default_factory=list)
    repository: str | None = None
    path: str | None = None
    revision: str | None = None
    sha256: str | None = None
    oracle: str | None = None


@dataclass(frozen=True)
class Measured:
    """One property on one variant.

    examples is None where it does not hold; worst: by dtype, in shares of its tolerance.
    """

    claim: str
    variant: str
    examples: int | None
    worst: dict[str, float]
    seconds: float = 0.0


@dataclass(frozen=True)
class Failure:
    """A test that did not pass. variant is None where it is about the library as a whole.

    kind: "property" where it speaks of the library: a property, or what leaves a measurement; else "test" or
    "collection".
    """

    nodeid: str
    claim: str
    variant: str | None
    kind: str
    message: str
    recipe: str | None
    replay: str


@dataclass(frozen=True)
class Fix:
    """What must be fixed: failures that lead to the same function, the simplest first.

    variant   None for the library as a whole
    suspect   the function most likely at fault, as "path:line name", or the first test where none stands out
    columns   the columns of the summary that it turns red
    """

    variant: str | None
    suspect: str
    columns: list[str]
    failures: list[Failure]


@dataclass(frozen=True)
class Block:
    """Everything about one variant. columns: the row of the summary."""

    variant: str
    title: str
    reference: ReferenceFact
    facts: Facts | None
    formula: str
    oracle_formula: str
    source: str
    oracle_source: str
    identity: str
    deviations: str
    columns: dict[str, Finding]
    properties: list[Measured]
    unrun: list[str]
    verdict: str
    reason: str


@dataclass(frozen=True)
class Worth:
    """What one property is good for.

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
    or crashed, of each property that was run under it.
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
class Mutation:
    """How much of the matrix this run has.

    wanted: mutants of the catalogue that must be caught on the judged variants.

    why: of those without a row, in which nothing was tried.
    """

    wanted: int
    rows: int
    caught: int
    why: str

    @property
    def complete(self) -> bool:
        """Whether each of them has a row."""
        return 0 < self.wanted == self.rows


@dataclass(frozen=True)
class SpeedSource:
    """Where figures of speed come from: another run, of python -m properties.speed."""

    file: str
    made: str
    machine: dict[str, str]


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


@dataclass(frozen=True)
class Provenance:
    """How to get this report again.

    source: sha256 of lora_lite's files; injected: the mutant that was on, if any.

    narrowed: the options that left tests out, "" where everything ran but for the matrix of mutants.
    """

    command: str
    versions: dict[str, str]
    profile: str
    examples: int
    seed: str
    seconds: float
    tests: dict[str, int]
    injected: str | None
    made: str
    source: str
    narrowed: str = ""


@dataclass(frozen=True)
class Report:
    """The whole audit. suite: failures that speak of no variant; skipped: why, by test."""

    provenance: Provenance
    rule: list[str]
    blocks: list[Block]
    library: Finding
    must_fix: list[Fix]
    suite: list[Failure]
    skipped: dict[str, str]
    nice_to_have: list[str]
    must_add: list[str]
    properties: list[Worth]
    mutation: Mutation
    mutants: list[MutantRow]
    gaps: Gaps
    probe: list[ProbeClaim]
    probe_records: list[dict[str, Any]]
    capabilities: list[dict[str, str]]
    speed: list[dict[str, Any]]
    speed_of: SpeedSource | None
    links: list[Link]

    @property
    def verdict(self) -> str:
        """The last rule that `rule` prints."""
        verdicts = {block.verdict for block in self.blocks}
        if BUGGY in verdicts or self.library.state == FAILS:
            return BUGGY
        return CORRECT if verdicts == {CORRECT} and self.library.state == OK and not self.suite else PARTIAL

    def to_json(self) -> dict[str, Any]:
        """Plain values; numbers that JSON has no name for are text, as "inf"."""
        made = asdict(self) | {"verdict": self.verdict}
        made["gaps"]["share"] = self.gaps.share
        return json.loads(json.dumps(_plain(made)))  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return value
