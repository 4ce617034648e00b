"""Part A of the audit: what is measured of every variant beside its properties holds, and travels with the report."""

import json
from collections.abc import Callable

import pytest

from properties.audit.measure import failing, measure


def fact_of(claim: str) -> Callable[..., None]:
    """The test that this part of every variant's facts holds."""

    def test(variant: str, request: pytest.FixtureRequest) -> None:
        record = measure(claim, variant)
        request.node.user_properties.append(("facts", json.dumps(record)))
        if wrong := failing(record):
            pytest.fail("\n".join([f"{claim} [{variant}]", *wrong, f"recipe   {record['case']}"]), pytrace=False)

    return test


test_params_are_as_declared = fact_of("params_are_as_declared")
test_init_is_as_the_oracle_claims = fact_of("init_is_as_the_oracle_claims")
test_identity_holds_in_every_pair_of_dtypes = fact_of("identity_holds_in_every_pair_of_dtypes")
test_trained_output_is_the_oracles = fact_of("trained_output_is_the_oracles")
test_trained_gradients_are_the_oracles = fact_of("trained_gradients_are_the_oracles")
test_a_saved_adapter_loads_as_it_was = fact_of("a_saved_adapter_loads_as_it_was")
