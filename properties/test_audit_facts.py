"""Part A of the audit: what is measured of every variant beside its properties holds, and travels with the report."""

import json
from dataclasses import asdict

import pytest

from properties.audit.measure import facts_of
from properties.audit.report import FAILS, Facts


def test_facts_hold(variant: str, request: pytest.FixtureRequest) -> None:
    """Params as declared, init as the oracle claims, identity in every pair of dtypes, output, gradients, round trip."""
    facts = facts_of(variant)
    request.node.user_properties.append(("facts", json.dumps(asdict(facts))))
    if wrong := failing(facts):
        pytest.fail(f"{variant}: " + "\n".join(wrong) + f"\nrecipe   {facts.case}", pytrace=False)


def failing(facts: Facts) -> list[str]:
    """Each fact that does not hold, with why."""
    rows = [(f"params {p.name}", p.found) for p in facts.params]
    rows += [(f"init {i.claim}", i.found) for i in facts.init]
    rows += [(f"dtype {d.base} × {d.adapter}", d.found) for d in facts.dtype]
    rows += [("forward", facts.forward), ("gradient", facts.gradient), ("round trip", facts.round_trip)]
    return [f"{name}: {found.why}" for name, found in rows if found.state == FAILS]
