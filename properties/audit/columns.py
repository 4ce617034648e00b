"""The columns of the summary: which property speaks for which, and what each says of a variant."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from properties.audit.measure import PARTS
from properties.audit.report import (
    FAILS,
    NO_REFERENCE,
    OK,
    PARTLY,
    UNMEASURED,
    DtypeFact,
    Facts,
    Failure,
    Finding,
    InitFact,
    Measured,
    ReferenceFact,
    TensorFact,
)
from properties.audit.wording import counted
from properties.registry import PROPERTIES

COLUMNS = ("has_ref", "params", "init", "dtype", "forward", "gradient", "round_trip", "other")

# Which column a property speaks for: by its name, else by the file that it stands in.
_BY_CLAIM = {
    "init_agrees_with_the_oracle": "init",
    "attach_writes_every_entry": "init",
    "the_tensors_are_as_the_paper_and_the_config_say": "params",
    "first_gradients_are_as_declared": "params",
}
_BY_FILE = {
    "test_forward": "forward",
    "test_peft": "forward",
    "test_merge": "forward",
    "test_laws": "forward",
    "test_identity": "dtype",
    "test_gradient": "gradient",
    "test_checkpoint": "round_trip",
    "test_files": "round_trip",
}


def column_of(claim: str) -> str:
    """The column of the summary that this property speaks for."""
    file = PROPERTIES[claim].check.__module__.rpartition(".")[2] if claim in PROPERTIES else ""
    if claim in PARTS:
        return PARTS[claim][0]
    return _BY_CLAIM.get(claim) or _BY_FILE.get(file, "other")


def columns_of(
    reference: ReferenceFact,
    facts: Facts | None,
    measured: Sequence[Measured],
    failures: Sequence[Failure],
    unrun: Sequence[str],
) -> dict[str, Finding]:
    """Every column of one variant."""
    found = {column: _column(column, facts, measured, failures, unrun) for column in COLUMNS[1:]}
    return {"has_ref": _has_reference(reference), **found}


def _column(
    column: str, facts: Facts | None, measured: Sequence[Measured], failures: Sequence[Failure], unrun: Sequence[str]
) -> Finding:
    """The worst of the facts and the properties that speak for it."""
    found = _facts_of(column, facts)
    for m in measured:
        if column_of(m.claim) == column and m.examples is not None:
            found.append(Finding(OK, max(m.worst.values(), default=None)))
    found += [Finding(FAILS, None, f.claim) for f in failures if column_of(f.claim) == column]
    figure = max((f.figure for f in found if f.figure is not None), default=None)
    for state in (FAILS, NO_REFERENCE, UNMEASURED):
        why = [f.why for f in found if f.state == state]
        if why:
            return Finding(state, figure, why[0].splitlines()[0] if why[0] else "")
    if not found:
        return Finding(UNMEASURED, None, "not measured in this run")
    missing = sum(column_of(claim) == column for claim in unrun)
    return Finding(PARTLY, figure, f"{counted(missing, 'property')} not run") if missing else Finding(OK, figure)


def _facts_of(column: str, facts: Facts | None) -> list[Finding]:
    """What speaks for this column beside properties; a column of properties alone has none."""
    if column == "other":
        return []
    found: Any = [] if facts is None else getattr(facts, column)
    if isinstance(found, Finding):
        return [found]
    return [replace(fact.found, why=f"{_label(fact)}: {fact.found.why}") for fact in found] or [
        Finding(UNMEASURED, None, "not measured in this run")
    ]


def _label(fact: TensorFact | InitFact | DtypeFact) -> str:
    if isinstance(fact, DtypeFact):
        return f"{fact.base} × {fact.adapter}"
    return fact.name if isinstance(fact, TensorFact) else fact.claim


def _has_reference(reference: ReferenceFact) -> Finding:
    if reference.verdict == "HAS_REFERENCE" and reference.oracle:
        return Finding(OK)
    return Finding(NO_REFERENCE, None, "no reference" if reference.oracle else "no reference or no oracle")
