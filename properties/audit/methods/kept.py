"""Which library keeps to which formula: the outcomes of the claims about formulas, for each method."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from properties.audit.methods.entries import Entry, contents
from properties.audit.methods.together import Meeting, meetings
from properties.audit.render import environment
from properties.audit.subjects import MARKS, Field, Row
from properties.judging.claim import load_claims_of_any
from properties.judging.outcome import BROKEN, CRASHED, HELD, NOT_JUDGED, Outcome
from properties.subjects.bindings import binding_of

# Beside those that need an oracle.
ALSO = ("every_setting_matters", "train_and_eval_agree")


@dataclass(frozen=True)
class Kept:
    """One method. says: "follows", in what it departs, or why that is not judged; states: by claim."""

    method: str
    says: str
    states: dict[str, str]


@dataclass(frozen=True)
class Formula:
    """One formula, and what became of all that are bound to it in this audit."""

    entry: Entry
    methods: list[Kept]


def claims() -> list[str]:
    """Those that ask whether a library keeps to a formula, in the order of an adapter's life."""
    return [name for name, c in load_claims_of_any().items() if "oracle" in c.needs or name in ALSO]


def formulas_of(rows: Sequence[Row]) -> list[Formula]:
    """Of the methods of a table that are bound, switches with their methods."""
    by: dict[str, list[Kept]] = {}
    for row in rows:
        if (binding := binding_of(row.method)) is not None:
            by.setdefault(binding.oracle, []).append(_kept(row))
    return [Formula(entry, by[entry.name]) for entry in contents().entries if entry.name in by]


def _kept(row: Row) -> Kept:
    asked = {o.claim: o for o in row.outcomes if o.claim in claims()}
    of_formula = [o for name, o in asked.items() if name not in ALSO]
    return Kept(row.method, _says(of_formula), {name: o.state for name, o in asked.items()})


def _says(outcomes: Sequence[Outcome]) -> str:
    broken = [o.claim.replace("_", " ") for o in outcomes if o.state in (BROKEN, CRASHED)]
    if broken:
        return f"departs: not so that {', '.join(broken)}"
    held = [o for o in outcomes if o.state == HELD]
    lacking = dict.fromkeys(o.why.splitlines()[0] for o in outcomes if o.state == NOT_JUDGED and o.why)
    if not held:
        return f"not judged: {'; '.join(lacking) or 'nothing applies'}"
    return f"follows, as far as it was judged: {'; '.join(lacking)}" if lacking else "follows"


def write(field: Field, folder: Path) -> list[Path]:
    """formulas.html and .md, where the table has a method that is bound to a formula."""
    found = formulas_of(field.rows)
    if not found:
        return []
    met: list[Meeting] = meetings([row.method for row in field.rows])
    context = {"field": field, "formulas": found, "claims": claims(), "marks": MARKS, "meetings": met}
    written = []
    for name in ("formulas.html", "formulas.md"):
        text = environment().get_template(f"{name}.j2").render(context)
        (folder / name).write_text(text + "\n", encoding="utf-8")
        written.append(folder / name)
    return written
