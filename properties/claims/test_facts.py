"""Part A of the audit: what is measured of every variant beside its properties holds, and travels with the
report.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

import lora_lite as ll
from lora_lite.spec import zeros
from properties.audit.evidence import Evidence
from properties.audit.judge import judge
from properties.audit.measure import PARTS, failing, fixed_case, measure
from properties.audit.report import PARTIAL, UNMEASURED
from properties.instruments.sample_audit import PROVENANCE


def fact_of(claim: str) -> Callable[..., None]:
    """The test that this part of every variant's facts holds."""

    def test(variant: str, request: pytest.FixtureRequest) -> None:
        record = measure(claim, variant)
        request.node.user_properties.append(("facts", json.dumps(record)))
        if wrong := failing(record):
            pytest.fail(
                "\n".join([f"{claim} [{variant}]", *wrong, f"recipe   {record['case']}"]), pytrace=False
            )

    return test


test_params_are_as_declared = fact_of("params_are_as_declared")
test_init_is_as_the_oracle_claims = fact_of("init_is_as_the_oracle_claims")
test_identity_holds_in_every_pair_of_dtypes = fact_of("identity_holds_in_every_pair_of_dtypes")
test_trained_output_is_the_oracles = fact_of("trained_output_is_the_oracles")
test_trained_gradients_are_the_oracles = fact_of("trained_gradients_are_the_oracles")
test_a_saved_adapter_loads_as_it_was = fact_of("a_saved_adapter_loads_as_it_was")


class Narrow(ll.Variant):
    """Takes these ranks alone, on any layer."""

    name = "narrow"
    config_class = ll.LoRAConfig
    takes: tuple[int, ...] = ()

    @classmethod
    def specs(cls, shape: ll.LinearShape, config: Any) -> dict[str, ll.ParamSpec]:
        return {"offset": ll.ParamSpec((shape.d_out,), zeros, first_gradient="nonzero")}

    @classmethod
    def check(cls, shape: ll.LinearShape, config: Any) -> None:
        if config.r not in cls.takes:
            raise ll.ConfigError(f"rank {config.r}")


@pytest.mark.instruments
@pytest.mark.parametrize(("takes", "rank"), [((8,), 8), ((2, 4, 8), 4), ((), None)])
def test_a_variant_of_unusual_ranks_is_measured_where_it_can_be(
    takes: tuple[int, ...], rank: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest rank where all are large; and where no layer fits, every part says why it was not
    measured.
    """
    kind: type[Narrow] = type("Narrow", (Narrow,), {"takes": takes, "name": f"narrow{takes}"})
    monkeypatch.setitem(ll.VARIANTS, kind.name, kind)
    if rank is not None:
        assert fixed_case(kind.name).option["r"] == rank
        return
    records = [measure(claim, kind.name) for claim in PARTS]
    assert [wrong for record in records for wrong in failing(record)] == []
    found = Evidence(records={"facts": json.loads(json.dumps(records))})
    (block,) = judge(found, None, PROVENANCE, [kind.name]).blocks
    assert {block.columns[part].state for part in ("params", "init", "dtype", "round_trip")} == {UNMEASURED}
    assert "takes no layer" in block.columns["params"].why
    assert block.verdict == PARTIAL
