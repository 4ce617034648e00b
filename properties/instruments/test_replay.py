"""A fixture fails with its fault and holds without; a known failure is expected, and its end is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

import lora_lite as ll
from properties.instruments.sample_fixtures import CASE, FOUND, fixture_of_hra, set_options
from properties.judging.assertions import Violation
from properties.judging.claim import CLAIMS, load_claims
from properties.judging.life_machine import Machine
from properties.judging.outcome import BROKEN, NOT_JUDGED, Outcome
from properties.judging.under_pytest import judged
from properties.mutation import load_catalogue
from properties.oracles import ORACLES
from properties.regressions.fixture import (
    HERE,
    Fixture,
    paths_in,
    read,
    tensors_of,
    write,
)
from properties.regressions.record import record
from properties.regressions.replay import replay
from properties.regressions.running import replay_as_test
from strategies import AdaptedLayer
from strategies.recipes import from_json, to_json

pytestmark = pytest.mark.instruments

REVERSED = load_catalogue()["hra_reflections_in_reverse"]


def failing(fixture: Fixture, path: Path = Path("none.json")) -> bool:
    try:
        replay(fixture, path)
    except Violation:
        return True
    return False


def test_replay_fails_with_the_fault_and_holds_without() -> None:
    assert not failing(fixture_of_hra())
    with REVERSED.injected():
        assert failing(fixture_of_hra())
    assert not failing(fixture_of_hra())


def test_a_fixture_is_not_judged_where_its_claim_is_not(
    asking: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an oracle or a package is missing it says nothing of the variant."""
    path = write(fixture_of_hra(), tmp_path)
    monkeypatch.delitem(ORACLES, "hra")
    with pytest.raises(pytest.skip.Exception, match="not judged: no oracle"):
        replay_as_test(path, asking)
    ((_, left),) = asking.node.user_properties
    assert Outcome.from_json(left).state == NOT_JUDGED


def test_a_fixture_that_a_mutant_made_is_red_with_it() -> None:
    """Replay of what lies here can still fail: a fixture that no longer sees its fault guards nothing."""
    for path in paths_in(HERE):
        fixture = read(path)
        if (name := fixture.found.get("mutant")) is not None:
            with load_catalogue()[name].injected():
                assert failing(fixture, path), (
                    f"{path.name} holds with {name} inside: record it anew or delete it"
                )


def test_a_known_failure_is_expected_and_its_end_is_not(asking: Any, tmp_path: Path) -> None:
    known = write(
        fixture_of_hra(expect="fail", reason="to be dealt with", link="https://example.org/1"), tmp_path
    )
    with (
        REVERSED.injected(),
        pytest.raises(pytest.xfail.Exception, match=r"to be dealt with \(https://example.org/1\)"),
    ):
        replay_as_test(known, asking)
    # Expected or not, the method does not keep its promise.
    ((_, outcome),) = asking.node.user_properties
    assert (outcome["state"], "known: to be dealt with" in outcome["why"]) == (BROKEN, True)
    with pytest.raises(
        pytest.fail.Exception, match=r"the known failure is gone \(to be dealt with\)\. Set expect to pass"
    ):
        replay_as_test(known, asking)


def test_a_known_failure_that_ends_in_another_way_is_no_longer_known(asking: Any, tmp_path: Path) -> None:
    """A recipe that builds no layer any more fails too, and not as it was known to."""
    recipe = to_json(replace(CASE, linear=replace(CASE.linear, weight="gone")))
    known = fixture_of_hra(
        recipe=recipe, expect="fail", reason="to be dealt with", link="https://example.org/1"
    )
    with pytest.raises(
        pytest.fail.Exception, match=r"the known failure is .* it ends in \"KeyError: 'gone'\" now"
    ):
        replay_as_test(write(known, tmp_path), asking)


def test_a_crash_in_replay_is_a_failure(asking: Any, tmp_path: Path) -> None:
    """Not an expected one of a fixture that is to pass, and told with its own traceback."""
    refused = write(fixture_of_hra(recipe=to_json(replace(CASE, options=(("r", 3),)))), tmp_path)
    with pytest.raises(ll.ConfigError, match="even"):
        replay_as_test(refused, asking)


@pytest.mark.slow
def test_the_steps_of_a_state_machine_are_written_down(
    asking: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hypothesis shrinks the machine's run; the life that it ended with is the fixture."""
    fault = load_catalogue()["hook_left_after_detach"]
    machine_settings = settings(derandomize=True, max_examples=50, stateful_step_count=8, database=None)
    set_options(monkeypatch, asking.config, record=tmp_path)
    failed = pytest.raises(pytest.fail.Exception, match=r"\nwritten  .*\nreplay   pytest --record")
    machine = load_claims()["the_machine_finds_nothing_wrong_in_fifty_steps"]
    with fault.injected(), failed, judged(machine, None, asking):
        run_state_machine_as_test(Machine, settings=machine_settings)
    (path,) = tmp_path.iterdir()
    fixture = read(path)
    assert len(from_json(fixture.recipe).steps) <= 3
    assert not failing(fixture, path)
    with fault.injected():
        assert failing(fixture, path)


def test_recorded_tensors_win_over_the_seed(tmp_path: Path) -> None:
    """The base, the input and the adapter's init of a case are those of the file, whatever the generators
    give by then.
    """
    check = load_claims()["forward_agrees_with_the_oracle"].check
    with REVERSED.injected():
        fixture, path = record(
            "forward_agrees_with_the_oracle",
            "hra",
            CASE,
            Violation("as it was"),
            folder=tmp_path,
            found=FOUND,
            check=check,
        )
    seen: list[list[torch.Tensor]] = []

    def watch(case: AdaptedLayer) -> None:
        model = case.build()
        torch.manual_seed(len(seen))  # another init every time, if it were not for the file
        ll.attach(model, ll.HRAConfig(r=2))
        seen.append([case.x(), *(tensor.detach() for tensor in model.state_dict().values())])

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CLAIMS, fixture.claim, replace(CLAIMS[fixture.claim], check=watch))
        replay(fixture, path)
        # A torch whose generator gives other numbers for the same seed.
        patch.setattr("strategies.tensors._pool", lambda seed, role, size: torch.full((size,), 7.0))
        replay(fixture, path)
        tensors_of(path).unlink()
        replay(fixture, path)
    with_file, again, without = seen
    assert all(torch.equal(a, b) for a, b in zip(with_file, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(with_file, without, strict=True))
