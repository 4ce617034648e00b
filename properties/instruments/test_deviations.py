"""A variant can say where a claim does not hold of it: there it must break, and nowhere else."""

import pytest
import torch
from hypothesis import settings
from torch import Tensor

import lora_lite as ll
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


@pytest.mark.parametrize("where", [lambda config: config.dtype == torch.float32, lambda config: False])
def test_a_stale_declaration_is_red(where: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds there, or there is no such config."""
    deviation = ll.Deviation(CLAIM, "somebody thought so", where)  # type: ignore[arg-type]  # a function
    monkeypatch.setattr(ll.LoRA, "deviations", (deviation,))
    with pytest.raises(Violation, match="lora declares that this does not hold of it"):
        confirm(load_claims()[CLAIM], "lora", FEW)


@pytest.mark.parametrize("of", [name for name, kind in ll.VARIANTS.items() if kind.deviations])
def test_every_declaration_of_ours_names_a_claim(of: str) -> None:
    assert {one.claim for one in ll.VARIANTS[of].deviations} <= set(load_claims())


def test_a_crash_is_not_what_was_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbling(self: object, x: Tensor, y: Tensor, layer: object) -> Tensor:
        raise ZeroDivisionError("in the layer")

    monkeypatch.setattr(ll.LoRA, "deviations", (ll.Deviation(CLAIM, "somebody thought so", lambda _: True),))
    monkeypatch.setattr(ll.LoRA, "adapt_output", stumbling)
    with pytest.raises(ZeroDivisionError, match="in the layer"):
        confirm(load_claims()[CLAIM], "lora", FEW)
