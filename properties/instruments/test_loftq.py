"""Each law of LoftQ's init is seen red on a fault of its own, and all hold where nothing is scaled."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from properties.judging.assertions import Violation
from properties.judging.claim import load_claims_of_any
from properties.subjects.library import LibraryCase
from properties.subjects.living import library
from strategies import LinearRecipe

pytestmark = pytest.mark.instruments

CLAIM = "an_init_from_data_keeps_its_laws"
Parts = dict[str, Tensor]


def _case(seed: int, alpha: int) -> LibraryCase:
    """Four bits where the seed is even, else eight; of rank 2."""
    given = (("r", 2), ("lora_alpha", alpha), ("init_lora_weights", "loftq"))
    return LibraryCase("peft:lora+init_lora_weights=loftq", LinearRecipe(6, 8), given, seed=seed)


def _judge(case: LibraryCase) -> None:
    if missing := library("peft").missing():
        pytest.skip(f"not judged: {missing}")
    pytest.importorskip("bitsandbytes")
    load_claims_of_any()[CLAIM].judge(case)


@pytest.mark.parametrize("seed", [0, 1], ids=["four", "eight"])
def test_without_a_scale_all_of_it_holds(seed: int) -> None:
    _judge(_case(seed, 2))


@pytest.mark.parametrize("seed", [0, 1], ids=["four", "eight"])
def test_a_scale_that_is_left_out_is_seen(seed: int) -> None:
    """findings/peft_loftq_scale.py"""
    with pytest.raises(Violation, match=r"Q \+ s B A is further from W than Q"):
        _judge(_case(seed, 16))


def _last(parts: Parts) -> tuple[Tensor, Tensor]:
    roots = parts["S"].sqrt()
    return parts["U"][:, -2:] * roots[-2:], roots[-2:, None] * parts["Vh"][-2:]


def _turned(parts: Parts) -> tuple[Tensor, Tensor]:
    angle = torch.tensor(0.5)
    turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos())).view(2, 2)
    return parts["L"] @ turn, turn.mT @ parts["R"]


FAULTS: dict[str, Callable[[Parts], tuple[Tensor, Tensor]]] = {
    "B A leaves of W - Q": _last,
    "A A^T is diagonal": _turned,
    "B^T B = A A^T": lambda parts: (parts["L"] / 2, parts["R"] * 2),
}


@pytest.mark.parametrize("seed", [0, 1], ids=["four", "eight"])
@pytest.mark.parametrize("law", FAULTS)
def test_other_factors_are_seen(law: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loftq = pytest.importorskip("peft.utils.loftq_utils")
    plain = loftq._low_rank_decomposition

    def wrong(weight: Tensor, reduced_rank: int) -> dict[str, Any]:
        parts = plain(weight, reduced_rank)
        L, R = FAULTS[law](parts)
        return {**parts, "L": L, "R": R}

    monkeypatch.setattr(loftq, "_low_rank_decomposition", wrong)
    with pytest.raises(Violation) as found:
        _judge(_case(seed, 2))
    assert f"the init law {law}" in str(found.value)


def test_other_levels_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """FP4's in place of NF4's."""
    bnb = pytest.importorskip("bitsandbytes")
    plain = bnb.nn.Params4bit

    def wrong(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **{**kwargs, "quant_type": "fp4"})

    monkeypatch.setattr(bnb.nn, "Params4bit", wrong)
    with pytest.raises(Violation, match="the init law Q is the nearest to W"):
        _judge(_case(0, 2))
