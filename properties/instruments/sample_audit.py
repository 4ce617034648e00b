"""Audits for the audit's own tests: a run of some facts and properties, with a mutant or without, and the
report of it.
"""

import json
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

from properties.audit.collect import failure_of
from properties.audit.evidence import Evidence
from properties.audit.inject import injected
from properties.audit.judge import judge
from properties.audit.measure import PARTS, failing, measure
from properties.audit.provenance import versions
from properties.audit.report import Measured, Provenance, Report
from properties.audit.tracing import Tracer
from properties.judging.assertions import Violation
from properties.judging.claim import load_properties
from properties.mutation.matrix import budget

PROVENANCE = Provenance(
    "pytest properties --audit audit", versions(), "dev", 10, "random", 1.0, {"passed": 1}, None, "", ""
)


def run(
    variants: Iterable[str],
    claims: Iterable[str] = (),
    *,
    facts: Iterable[str] = tuple(PARTS),
    mutant: str | None = None,
) -> tuple[Evidence, Tracer]:
    """What a run of the facts and of these properties leaves behind."""
    found, tracer = Evidence(), Tracer()
    with injected(mutant) if mutant else nullcontext():
        for variant in variants:
            for claim in (*facts, *claims):
                nodeid = f"properties/test_it.py::test_{claim}[{variant}]"
                found.ran.add((claim, variant))
                with tracer.during(nodeid):
                    if told := _failed(found, claim, variant):
                        found.failures.append(failure_of(nodeid, told))
                    else:
                        found.passed.add(nodeid)
    return found, tracer


def _failed(found: Evidence, claim: str, variant: str) -> str | None:
    if claim in PARTS:
        record = json.loads(json.dumps(measure(claim, variant)))
        found.records.setdefault("facts", []).append(record)
        return "\n".join(failing(record))
    try:
        meter = load_properties()[claim].run(variant, budget(20, shrink=True))
    except Violation as violation:
        found.measured.append(Measured(claim, variant, None, {}))
        return str(violation)
    found.measured.append(Measured(claim, variant, meter.examples, meter.worst))
    return None


def audit(variants: Iterable[str], claims: Iterable[str] = (), *, traced: bool = False, **how: Any) -> Report:
    """The report of run()."""
    variants = list(variants)
    found, tracer = run(variants, claims, **how)
    return judge(found, tracer if traced else None, PROVENANCE, variants)
