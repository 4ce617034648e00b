"""A variant can say where a claim does not hold of it: there it must break, and nowhere else."""

import pytest
import torch
from hypothesis import settings
from torch import Tensor

import lora_lite as ll
from properties.guests import unfounded_deviations
from properties.instruments.strangers import registered
from properties.judging.assertions import Violation
from properties.judging.claim import load_claims
from properties.judging.declared import confirm

pytestmark = pytest.mark.instruments

FEW = settings(max_examples=40, database=None, derandomize=True)
CLAIM = "every_entry_moves_in_every_dtype"


def test_what_is_declared_is_seen_to_break_there_and_to_hold_elsewhere() -> None:
    with registered("ssf") as variant:
        claim = load_claims()[CLAIM]
        assert claim.run("ssf", FEW).examples > 0
        assert confirm(claim, "ssf", FEW) == variant.deviations[0].why


def test_what_is_not_declared_stays_red(monkeypatch: pytest.MonkeyPatch) -> None:
    with registered("ssf") as variant:
        monkeypatch.setattr(variant, "deviations", ())
        with pytest.raises(Violation, match=r"gamma.*ll\.Deviation"):
            load_claims()[CLAIM].run("ssf", FEW)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (lambda config: config.dtype == torch.float32, r"holds in all \d+ cases of these"),
        (lambda config: False, "no settings that are drawn are so"),
    ],
)
def test_a_stale_declaration_is_red(where: object, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds there, or there is no such config."""
    deviation = ll.Deviation(CLAIM, "somebody thought so", where)  # type: ignore[arg-type]  # a function
    monkeypatch.setattr(ll.LoRA, "deviations", (deviation,))
    with pytest.raises(Violation, match=f"lora declares that this does not hold of it .*{found}"):
        confirm(load_claims()[CLAIM], "lora", FEW)


@pytest.mark.parametrize("of", [name for name, kind in ll.VARIANTS.items() if kind.deviations])
def test_every_declaration_of_ours_is_of_a_claim_about_it(of: str) -> None:
    assert not list(unfounded_deviations(ll.VARIANTS[of]))


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ("every_entry_move_in_every_dtype", "'every_entry_moves_in_every_dtype'"),
        (f"test_{CLAIM}", f"'{CLAIM}'"),
        ("calibration_leaves_nothing_behind", "about ssf: it is"),
        ("bananas", "the nearest is"),
    ],
)
def test_a_deviation_from_no_claim_is_told(claim: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is misspelt, that of a test, or that of a claim about others."""
    with registered("ssf") as variant:
        monkeypatch.setattr(variant, "deviations", (ll.Deviation(claim, "so it is"),))
        (found,) = unfounded_deviations(variant)
    assert f"SSF.deviations: found {claim!r}, wanted the name of a claim" in found
    assert told in found


def test_a_crash_is_not_what_was_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbling(self: object, x: Tensor, y: Tensor, layer: object) -> Tensor:
        raise ZeroDivisionError("in the layer")

    monkeypatch.setattr(ll.LoRA, "deviations", (ll.Deviation(CLAIM, "somebody thought so", lambda _: True),))
    monkeypatch.setattr(ll.LoRA, "adapt_output", stumbling)
    with pytest.raises(ZeroDivisionError, match="in the layer"):
        confirm(load_claims()[CLAIM], "lora", FEW)
