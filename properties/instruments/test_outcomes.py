"""However a claim ends, its outcome says so: nothing that did not run to its end is held."""

from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from properties.instruments.sample_fixtures import set_options
from properties.judging.assertions import Violation
from properties.judging.claim import Claim, load_claims
from properties.judging.outcome import BROKEN, CRASHED, HELD, NOT_JUDGED
from properties.judging.under_pytest import judged
from properties.oracles import ORACLES
from properties.regressions.fixture import read
from strategies import AdaptedLayer, trained_layers

pytestmark = pytest.mark.instruments


def ended(check: Any, asking: Any) -> dict[str, Any]:
    """The outcome that a claim with this check leaves, whatever it raises."""
    made = Claim("made_up", check, trained_layers, "forward")
    with suppress(BaseException), judged(made, "lora", asking) as meter:
        made.run("lora", settings(max_examples=20, database=None), meter)
    ((_, outcome),) = asking.node.user_properties
    return outcome  # type: ignore[no-any-return]


def holding(case: AdaptedLayer) -> None:
    """Asserts nothing."""


def violating(case: AdaptedLayer) -> None:
    raise Violation("it is off")


def leaving(case: AdaptedLayer) -> None:
    raise SystemExit(3)


def interrupted(case: AdaptedLayer) -> None:
    raise KeyboardInterrupt


def refusing_nothing(case: AdaptedLayer) -> None:
    with pytest.raises(KeyboardInterrupt):
        pass


@pytest.mark.parametrize(
    ("check", "state", "why"),
    [
        (holding, HELD, ""),
        (violating, BROKEN, "it is off"),
        (leaving, CRASHED, "RuntimeError: the code under test wants to end the process: SystemExit(3)"),
        (interrupted, NOT_JUDGED, "the run was cut off"),
        (refusing_nothing, BROKEN, "DID NOT RAISE"),
    ],
)
def test_however_a_claim_ends_its_outcome_says_so(
    check: Any, state: str, why: str, asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_options(monkeypatch, asking.config, no_record=True)
    outcome = ended(check, asking)
    assert (outcome["state"], outcome["why"].startswith(why)) == (state, True)
    assert bool(outcome["why"]) == bool(why)
    assert outcome["examples"] > 0


def test_an_oracle_without_a_law_of_its_init_judges_no_init(
    asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any init keeps no law at all."""
    monkeypatch.setitem(ORACLES, "lora", ORACLES["lora"]._replace(init_laws=lambda *given: []))
    set_options(monkeypatch, asking.config, no_record=True)
    outcome = ended(load_claims()["init_agrees_with_the_oracle"].check, asking)
    assert (outcome["state"], "states no law of its init" in outcome["why"]) == (NOT_JUDGED, True)


@pytest.mark.parametrize(
    ("error", "state"), [(Violation("it is off"), BROKEN), (ZeroDivisionError("by 0"), CRASHED)]
)
def test_what_fails_at_times_is_the_methods_fault(
    error: Exception, state: str, asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And said to be so: a method that is not deterministic does not put the suite in doubt."""
    calls = count()

    def at_times(case: AdaptedLayer) -> None:
        if next(calls) == 2:
            raise error

    set_options(monkeypatch, asking.config, no_record=True)
    outcome = ended(at_times, asking)
    assert (outcome["state"], outcome["recipe"][:12]) == (state, "AdaptedLayer")
    assert str(error) in outcome["why"]


def test_a_crash_is_written_down_too(asking: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own traceback, and what a violation ends with as a note."""

    def stumbling(case: AdaptedLayer) -> None:
        raise ZeroDivisionError(f"in {case.linear.d_in}")

    claim_of_ours = Claim("stumbling", stumbling, trained_layers, "forward")
    set_options(monkeypatch, asking.config, record=tmp_path)
    with pytest.raises(ZeroDivisionError) as crash, judged(claim_of_ours, "lora", asking):
        claim_of_ours.run("lora", settings(max_examples=5, database=None))
    (path,) = tmp_path.iterdir()
    recipe, written, replayed = crash.value.__notes__[-1].splitlines()
    assert recipe.startswith("recipe   AdaptedLayer(variant='lora'")
    assert (written, replayed[:16]) == (f"written  {path}", "replay   pytest ")
    ((_, outcome),) = asking.node.user_properties
    assert (outcome["state"], outcome["why"]) == (CRASHED, "ZeroDivisionError: in 1")
    assert f"recipe   {outcome['recipe']}" == recipe
    assert read(path).error == "ZeroDivisionError: in 1"
