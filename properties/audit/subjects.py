"""Libraries × methods × claims: one table of what each claim without a formula came to on each method."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from properties.audit import elsewhere
from properties.audit.provenance import version_of
from properties.audit.report import Shard
from properties.audit.wording import counted
from properties.judging.claim import Claim, load_claims_of_any
from properties.judging.outcome import BROKEN, CRASHED, DECLARED, HELD, NOT_APPLICABLE, NOT_JUDGED, Outcome
from properties.judging.profiles import DEFAULT_EXAMPLES
from properties.subjects.living import library

MARKS = {HELD: "·", BROKEN: "#", CRASHED: "!", DECLARED: "≠", NOT_APPLICABLE: " ", NOT_JUDGED: "?"}
REFUSED = "all "


@dataclass(frozen=True)
class Row:
    """One method of one library. page: where all of it is told. refused: the share of drawn settings that the
    library does not take.
    """

    method: str
    page: str
    verdict: str
    held: int
    broken: int
    not_judged: int
    examples: int
    refused: float
    seconds: float
    outcomes: list[Outcome]


@dataclass(frozen=True)
class Field:
    """The table, and how it came about. shards, lost: as a Report's."""

    command: str
    versions: dict[str, str]
    seconds: float
    claims: list[str]
    rows: list[Row]
    shards: list[Shard] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def field_of(
    outcomes: Sequence[Outcome],
    methods: Sequence[str],
    *,
    command: str,
    seconds: float,
    absent: str = "not run",
) -> Field:
    """What came of all claims on these methods, by their full names. absent: why there is no outcome."""
    claims = load_claims_of_any()
    found: dict[tuple[str, str | None], Outcome] = {(o.claim, o.method): o for o in outcomes}
    rows = [
        _row(method, [_beside(_settled(claim, method, found, absent), methods) for claim in claims.values()])
        for method in methods
    ]
    names = dict.fromkeys(method.partition(":")[0] for method in methods)
    packages = ["torch", *(library(name).package for name in names)]
    return Field(command, {name: version_of(name) for name in packages}, round(seconds, 1), [*claims], rows)


def _settled(claim: Claim, method: str, found: dict[tuple[str, str | None], Outcome], absent: str) -> Outcome:
    """What the run left; or why it left nothing."""
    standing = claim.standing_of(method)
    outcome = found.get((claim.name, method))
    if standing.state is not None or outcome is None:
        state, why = standing.state or NOT_JUDGED, standing.why or absent
        return Outcome(claim.name, method, claim.stage, state, why)
    if outcome.state == HELD and outcome.budget < DEFAULT_EXAMPLES:
        return replace(outcome, state=NOT_JUDGED, why=f"a budget of {outcome.budget} examples")
    return outcome


def _beside(outcome: Outcome, methods: Sequence[str]) -> Outcome:
    """With what the failing recipe comes to in the other libraries that have the method."""
    tried = elsewhere.told(outcome, methods)
    return replace(outcome, shown={**outcome.shown, "elsewhere": tried}) if tried else outcome


def _row(method: str, outcomes: list[Outcome]) -> Row:
    count = Counter(o.state for o in outcomes)
    broken = count[BROKEN] + count[CRASHED]
    examples = sum(o.examples for o in outcomes)
    refused = sum(o.shown.get("refused", 0) for o in outcomes)
    tried = examples + refused
    refuses = examples == 0 and refused > 0
    verdict = "refused" if refuses else "broken" if broken else "held" if count[HELD] else "not judged"
    share = round(refused / tried, 3) if tried else 0.0
    seconds = round(sum(o.seconds for o in outcomes), 1)
    page = "subjects/" + re.sub(r"[^\w+=.]+", "-", method) + ".html"
    return Row(
        method, page, verdict, count[HELD], broken, count[NOT_JUDGED], examples, share, seconds, outcomes
    )


def write(field: Field, folder: Path) -> list[Path]:
    """subjects.json, .md and .html, and in subjects/ a page a method. Returns the first three."""
    (folder / "subjects").mkdir(parents=True, exist_ok=True)
    environment = Environment(
        loader=PackageLoader("properties.audit"),
        undefined=StrictUndefined,
        autoescape=select_autoescape(("html.j2",)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    context = {"field": field, "marks": MARKS, "summary": summary(field)}
    text = {
        "subjects.html": environment.get_template("subjects.html.j2").render(context),
        "subjects.md": environment.get_template("subjects.md.j2").render(context),
        "subjects.json": json.dumps(asdict(field), indent=1, ensure_ascii=False, default=str),
    }
    page = environment.get_template("method.html.j2")
    for row in field.rows:
        told = page.render(row=row, versions=field.versions, marks=MARKS)
        (folder / row.page).write_text(told + "\n", encoding="utf-8")
    for name, content in text.items():
        (folder / name).write_text(content + "\n", encoding="utf-8")
    return [folder / name for name in text]


def summary(field: Field) -> str:
    """A line a library."""
    lines = []
    for name in dict.fromkeys(row.method.partition(":")[0] for row in field.rows):
        own = [row for row in field.rows if row.method.partition(":")[0] == name]
        count = Counter(row.verdict for row in own)
        told = ", ".join(f"{n} {verdict}" for verdict, n in count.items())
        broken = sum(row.broken for row in own)
        lines.append(f"{name}: {counted(len(own), 'method')} ({told}), {counted(broken, 'broken claim')}")
    return "\n".join(lines)
