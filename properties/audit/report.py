"""The report as plain data: what audit.json holds and every renderer reads. Nothing here judges or
formats.
"""

import json
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

from properties.audit.sight import Gaps, MutantRow, Mutation, ProbeClaim, Worth
from properties.judging.outcome import Outcome

CORRECT, PARTIAL, BUGGY = "CORRECT", "PARTIAL", "BUGGY"


@dataclass(frozen=True)
class Stage:
    """The claims of one stage on one method: the worst state of those that apply, and how many are in each.

    figure: the largest error of those that hold, as a share of its bound; None where equality or a fact is
    claimed
    """

    state: str
    held: int = 0
    failed: int = 0
    not_judged: int = 0
    figure: float | None = None
    declared: int = 0


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
class SuiteFailure:
    """A test that is no claim, or a file that could not be collected."""

    nodeid: str
    message: str
    replay: str


@dataclass(frozen=True)
class Suspect:
    """A function that may be at fault, as "path:line name". lines: where in it to look, the likeliest first.

    score: its share of 1 over all functions. why: the figures that made it, see audit/places/localise.py.
    """

    place: str
    lines: list[int]
    score: float
    why: dict[str, float]


@dataclass(frozen=True)
class Localisation:
    """How often the first suspect, and the first few, are where the fault is; see audit/places/__main__.py.

    rows: by evidence, and by what is left out of earlier runs, shares of the faults whose places are known.
    source: of the lora_lite that they were measured on, as Provenance has it.
    """

    how: str
    source: str
    unseen: list[str]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Fix:
    """What must be fixed: failures that lead to the same place, the simplest first.

    method    None for the library as a whole, and where several methods fail at one place outside their own
              files
    suspects  most likely first; none where nothing that failed left a trace
    stages    those whose claims fail
    """

    method: str | None
    suspects: list[Suspect]
    stages: list[str]
    failures: list[Outcome]


@dataclass(frozen=True)
class Portrait:
    """What the method looks like on one fixed layer; an empty list where it was not judged in this run."""

    case: str
    tensors: list[dict[str, Any]]
    init: list[dict[str, Any]]
    identity: list[dict[str, Any]]


@dataclass(frozen=True)
class Block:
    """Everything about one method.

    stages: the row of the summary; could_add: what would let more be judged.
    """

    variant: str
    title: str
    reference: ReferenceFact
    portrait: Portrait
    formula: str
    oracle_formula: str
    source: str
    oracle_source: str
    identity: str
    deviations: str
    stages: dict[str, Stage]
    outcomes: list[Outcome]
    could_add: list[str]
    verdict: str
    reason: str


@dataclass(frozen=True)
class SpeedSource:
    """Where figures of speed come from: another run, of python -m properties.speed."""

    file: str
    made: str
    machine: dict[str, str]


@dataclass(frozen=True)
class Provenance:
    """How to get this report again.

    source: sha256 of lora_lite's files; injected: the mutant that was on, if any.

    narrowed: the options that left tests out, "" where everything ran but for the matrix of mutants.

    repeats: the same command draws the same cases again.
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
    repeats: bool = False


@dataclass(frozen=True)
class Shard:
    """One run whose records an audit is made of.

    run        its own name, by which it is known wherever its records are copied
    subjects   the libraries whose methods it was to judge by the claims about any library
    part       "2/4": the part of these methods that it judged; "" for all of them
    asked      these methods, of every part; judged: of its own
    variants   lora_lite's, that it judged by lora_lite's own claims
    suite      sha256 of the suite's files
    """

    run: str
    provenance: Provenance
    subjects: list[str]
    part: str
    asked: list[str]
    judged: list[str]
    variants: list[str]
    suite: str


@dataclass(frozen=True)
class Library:
    """The claims that are about no method in particular."""

    stages: dict[str, Stage]
    outcomes: list[Outcome]
    verdict: str
    reason: str


@dataclass(frozen=True)
class Report:
    """The whole audit.

    library    the claims about the library as a whole, as a block's
    left_out   methods that this run was told not to judge
    suite      failures that speak of no method
    mutants    those that this run injected
    matrix     those under which every claim was tried, in this run or another
    skipped    why, by test
    shards     the runs that a merge united; none of one run's own audit
    lost       parts that should be among them and are not
    """

    provenance: Provenance
    rule: list[str]
    blocks: list[Block]
    library: Library
    left_out: list[str]
    must_fix: list[Fix]
    suite: list[SuiteFailure]
    skipped: dict[str, str]
    nice_to_have: list[str]
    must_add: list[str]
    claims: list[Worth]
    mutation: Mutation
    mutants: list[MutantRow]
    matrix: list[MutantRow]
    gaps: Gaps
    probe: list[ProbeClaim]
    probe_records: list[dict[str, Any]]
    capabilities: list[dict[str, str]]
    speed: list[dict[str, Any]]
    speed_of: SpeedSource | None
    links: list[Link]
    localisation: Localisation | None = None
    shards: list[Shard] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    speed_costs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The last rule that `rule` prints."""
        verdicts = {self.library.verdict, *(block.verdict for block in self.blocks)}
        if BUGGY in verdicts:
            return BUGGY
        return CORRECT if verdicts == {CORRECT} and not (self.suite or self.left_out) else PARTIAL

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
