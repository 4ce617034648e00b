"""Audits for the audit's own tests: a run of some claims, with a mutant or without, and the report of it."""

import json
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from properties.audit.evidence import Evidence
from properties.audit.inject import injected
from properties.audit.judge import judge
from properties.audit.provenance import versions
from properties.audit.report import Block, Provenance, Report
from properties.audit.tracing import Tracer
from properties.judging.assertions import Violation
from properties.judging.claim import Claim, load_claims
from properties.judging.outcome import BROKEN, CRASHED, HELD, Meter, Outcome
from properties.judging.profiles import DEFAULT_EXAMPLES
from properties.mutation.reach import budget
from strategies.recipes import pasteable

PROVENANCE = Provenance(
    "pytest properties --audit audit",
    versions(),
    "dev",
    DEFAULT_EXAMPLES,
    "random",
    1.0,
    {"passed": 1},
    None,
    "",
    "",
)
# What the page shows figures of.
PORTRAIT = (
    "the_tensors_of_a_fixed_layer_are_as_declared",
    "the_init_of_a_fixed_layer_keeps_the_oracles_laws",
    "the_identity_holds_in_every_pair_of_dtypes",
)


def outcome_of(claim: Claim, variant: str, nodeid: str) -> Outcome:
    """What a test of the claim would leave, from a twentieth of the examples."""
    meter = Meter()
    outcome = Outcome(claim.name, variant, claim.stage, HELD, budget=DEFAULT_EXAMPLES, nodeid=nodeid)
    try:
        claim.run(variant, budget(20, shrink=True), meter)
    except Exception as error:
        case = getattr(error, "case", None)
        state = BROKEN if isinstance(error, Violation) else CRASHED
        recipe = None if case is None else pasteable(case)
        tensor = getattr(error, "tensor", None)
        outcome = replace(outcome, state=state, why=str(error), tensor=tensor, recipe=recipe)
    outcome = replace(outcome, examples=meter.examples, worst=meter.worst, shown=meter.shown)
    return Outcome.from_json(json.loads(json.dumps(outcome.to_json())))


def held(claim: Claim, variant: str | None) -> Outcome:
    """An outcome that nothing was run for."""
    return Outcome(claim.name, variant, claim.stage, HELD, examples=60, budget=DEFAULT_EXAMPLES)


def everything_held(variants: Iterable[str]) -> Evidence:
    """A run in which every claim holds: on each of these, and on the library as a whole."""
    claims = load_claims().values()
    return Evidence(
        outcomes=[held(c, v) for c in claims for v in (variants if c.cases is not None else (None,))]
    )


def run(
    variants: Iterable[str], claims: Iterable[str] = (), *, mutant: str | None = None, traced: bool = True
) -> tuple[Evidence, Tracer]:
    """What a run of these claims leaves behind. traced: half of its time, where somebody asks what ran."""
    found, tracer = Evidence(), Tracer()
    with injected(mutant) if mutant else nullcontext():
        for variant in variants:
            for name in claims:
                nodeid = f"properties/claims/test_it.py::test_{name}[{variant}]"
                with tracer.during(nodeid) if traced else nullcontext():
                    found.outcomes.append(outcome_of(load_claims()[name], variant, nodeid))
    return found, tracer


def audit(variants: Iterable[str], claims: Iterable[str] = (), *, traced: bool = False, **how: Any) -> Report:
    """The report of run()."""
    variants = list(variants)
    found, tracer = run(variants, claims, traced=traced, **how)
    return judge(found, tracer if traced else None, PROVENANCE, variants)


def block_of(report: Report, variant: str) -> Block:
    return next(block for block in report.blocks if block.variant == variant)
