"""What a new release of a library adds is seen by itself: a method, a setting, a trained tensor."""

import enum
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import settings

from properties.audit import subjects
from properties.audit.methods.entries import contents
from properties.audit.methods.following import follower
from properties.judging.claim import load_claims_of_any
from properties.judging.outcome import NOT_JUDGED, NotJudgedError
from properties.judging.settings_seen import QUICK
from properties.subjects.library import LibraryCase
from properties.subjects.living import library, method_of, methods_of
from properties.subjects.peft import Peft
from strategies import LinearRecipe

pytestmark = pytest.mark.instruments

VERA, CLAIM = "peft:vera", "the_output_is_the_formulas"


@pytest.fixture(autouse=True)
def _installed() -> None:
    if missing := library("peft").missing():
        pytest.skip(f"not judged: {missing}")


def _released(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft's registry is read anew, as the process of a new release would."""
    made = Peft.methods.__wrapped__(library("peft"))
    monkeypatch.setattr(Peft, "methods", lambda self: made)


def _config_of_vera() -> Any:
    from peft import PeftType, VeraConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as CONFIGS

    @dataclass
    class NewConfig(VeraConfig):
        novel_scale: float = 2.0

    return CONFIGS, PeftType.VERA, NewConfig


def test_a_method_that_a_release_adds_has_no_formula_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is judged by the claims that need none, and stands in both tables by its name."""
    from peft import VeraConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as CONFIGS
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING as TUNERS
    from peft.tuners.vera import VeraModel

    kind = enum.Enum("kind", {"NOVEL": "NOVEL"}).NOVEL  # type: ignore[attr-defined]  # its one member
    monkeypatch.setitem(CONFIGS, kind, VeraConfig)
    monkeypatch.setitem(TUNERS, kind, VeraModel)
    _released(monkeypatch)
    assert "peft:novel" in methods_of("peft")
    claims = load_claims_of_any()
    standings = {name: claim.standing_of("peft:novel") for name, claim in claims.items()}
    why = "no formula yet: bind peft:novel in subjects/bindings"
    asked = {name for name, claim in claims.items() if "oracle" in claim.needs}
    assert {name for name, one in standings.items() if one.why == why} == asked
    assert standings["the_base_does_not_train"].state is None
    assert contents().without["peft"] == ["novel"]
    (row,) = subjects.field_of([], ["peft:novel"], command="pytest", seconds=0).rows
    assert {o.why for o in row.outcomes if o.claim in asked} == {why}
    assert {o.state for o in row.outcomes if o.claim in asked} == {NOT_JUDGED}


def test_a_setting_that_a_release_adds_is_not_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn, and its method is not judged by its formula any more; the table says which it is."""
    configs, kind, made = _config_of_vera()
    monkeypatch.setitem(configs, kind, made)
    _released(monkeypatch)
    assert method_of(VERA).numbers["novel_scale"] == (2.0, 1.0)
    why = "no formula yet: peft:vera has novel_scale, which is not bound"
    with pytest.raises(NotJudgedError, match=why):
        load_claims_of_any()[CLAIM].run(VERA, settings(QUICK, max_examples=5))
    assert follower(VERA).why == f"not judged: {why}"


def test_a_setting_that_a_release_ignores_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the claim that needs no formula: no value of it is seen in anything."""
    configs, kind, made = _config_of_vera()
    monkeypatch.setitem(configs, kind, made)
    _released(monkeypatch)
    with pytest.raises(AssertionError, match="nothing changes with novel_scale"):
        load_claims_of_any()["every_setting_matters"].judge(
            LibraryCase(VERA, LinearRecipe(8, 8, True), depth=2)
        )


def test_a_tensor_that_a_release_trains_is_not_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.vera.layer import VeraLayer

    update = VeraLayer.update_layer

    def with_another(self: Any, name: str, *given: Any, **named: Any) -> None:
        self.vera_lambda_n = torch.nn.ParameterDict({name: torch.nn.Parameter(torch.ones(2))})
        update(self, name, *given, **named)

    monkeypatch.setattr(VeraLayer, "update_layer", with_another)
    why = r"no formula yet: peft:vera has \S*vera_lambda_n.default, which is not bound"
    with pytest.raises(NotJudgedError, match=why):
        load_claims_of_any()[CLAIM].run(VERA, settings(QUICK, max_examples=5))
    assert "vera_lambda_n" in follower(VERA).why
