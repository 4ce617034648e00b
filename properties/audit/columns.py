"""The columns of the summary: which property speaks for which, and what each says of a variant."""

import re
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
from properties.judging.claim import PROPERTIES

COLUMNS = ("has_ref", "params", "init", "dtype", "forward", "gradient", "round_trip", "other")

# Which column a property speaks for: by its name, else by the file that it stands in.
_BY_CLAIM = {
    "init_agrees_with_the_oracle": "init",
    "attach_writes_every_entry": "init",
    "the_tensors_are_as_the_paper_and_the_config_say": "params",
    "first_gradients_are_as_declared": "params",
    "under_autocast_the_output_is_the_oracles": "other",
}
_BY_FILE = {
    "test_forward": "forward",
    "test_peft": "forward",
    "test_merge": "forward",
    "test_laws": "forward",
    "test_identity": "init",
    "test_dtypes": "dtype",
    "test_gradient": "gradient",
    "test_checkpoint": "round_trip",
    "test_files": "round_trip",
}

# One layer each, and what most others build upon: what fails among them is told first.
SIMPLEST = (
    "identity_at_init",
    "first_gradients_are_as_declared",
    "first_gradients_agree_with_the_oracle",
    "forward_agrees_with_the_oracle",
    "gradients_agree_with_the_oracle",
    "save_load_keeps_every_bit",
)


def simplicity(failure: Failure) -> tuple[bool, bool, int, int]:
    """Orders failures: drawn cases first, of them those of one layer, of them the smallest."""
    recipe, simple = failure.recipe, failure.claim in SIMPLEST
    rank = SIMPLEST.index(failure.claim) if simple else len(SIMPLEST)
    return recipe is None, not simple, len(recipe or failure.message), rank


def column_of(claim: str) -> str:
    """The column of the summary that this property speaks for."""
    claim = claim.removesuffix("_on_real_weights")
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
    column: str,
    facts: Facts | None,
    measured: Sequence[Measured],
    failures: Sequence[Failure],
    unrun: Sequence[str],
) -> Finding:
    """The worst of the facts and the properties that speak for it."""
    failing = sorted((f for f in failures if column_of(f.claim) == column), key=simplicity)
    found = [
        Finding(FAILS, None, _does_not_hold(f.claim.replace("_", " "), f.message))
        for f in failing
        if f.claim in SIMPLEST
    ]
    found += _facts_of(column, facts)
    for m in measured:
        if column_of(m.claim) == column and m.examples is not None:
            found.append(Finding(OK, max(m.worst.values(), default=None)))
    found += [
        Finding(FAILS, None, _does_not_hold(f.claim.replace("_", " "), f.message))
        for f in failing
        if f.claim not in SIMPLEST
    ]
    for state in (FAILS, NO_REFERENCE, UNMEASURED):
        of_it = [f for f in found if f.state == state]
        if of_it:
            # What holds beside it has figures too, and none of them is this state's.
            return Finding(
                state, _largest(of_it if state == FAILS else found), of_it[0].why.partition("\n")[0]
            )
    figure = _largest(found)
    if not found:
        return Finding(UNMEASURED, None, "not measured in this run")
    missing = sum(column_of(claim) == column for claim in unrun)
    return (
        Finding(PARTLY, figure, f"{counted(missing, 'property')} not run") if missing else Finding(OK, figure)
    )


def _largest(found: Sequence[Finding]) -> float | None:
    return max((f.figure for f in found if f.figure is not None), default=None)


def _does_not_hold(what: str, message: str) -> str:
    """In one line, what failed and with which figures."""
    lines = [
        " ".join(line.split()) for line in message.splitlines() if not re.fullmatch(r"\w+ \[[^]]+\]", line)
    ]
    return ": ".join(["does not hold", *([what] if what else []), *lines[:2]])


def _facts_of(column: str, facts: Facts | None) -> list[Finding]:
    """What speaks for this column beside properties; a column of properties alone has none."""
    if column == "other":
        return []
    found: Any = [] if facts is None else getattr(facts, column)
    if isinstance(found, Finding):
        return [_told("", found)]
    return [_told(_label(fact), fact.found) for fact in found] or [
        Finding(UNMEASURED, None, "not measured in this run")
    ]


def _told(label: str, found: Finding) -> Finding:
    if found.state == FAILS:
        return replace(found, why=_does_not_hold(label, found.why))
    return replace(found, why=f"{label}: {found.why}") if label else found


def _label(fact: TensorFact | InitFact | DtypeFact) -> str:
    if isinstance(fact, DtypeFact):
        return f"{fact.base} × {fact.adapter}"
    return fact.name if isinstance(fact, TensorFact) else fact.claim


def _has_reference(reference: ReferenceFact) -> Finding:
    if reference.verdict == "HAS_REFERENCE" and reference.oracle:
        return Finding(OK)
    return Finding(NO_REFERENCE, None, "no reference" if reference.oracle else "no reference or no oracle")
