"""An oracle that no library can contradict proves nothing: each is seen wrong under slips of its own."""

import pytest

from properties.instruments.oracle_mutants import methods_bound_to, survivors
from properties.judging.laws import KINDS
from properties.oracles.field import FORMULAS, OURS, SOURCES

pytestmark = pytest.mark.instruments

FIELD = [name for name in FORMULAS if name not in OURS]
# What is left is the same formula.
ANY_ORDER = "terms of a sum, or parts that do not overlap, in another order"
FROM_THE_END = "a negative index counts from the end, and comes to the same"
SAME = {
    "boft": {"arithmetic: i + half * step => i - half * step": FROM_THE_END},
    "c3a": {
        "operand: (j[None, :] - j[:, None]) % len(j) => j[None, :] - j[:, None]": FROM_THE_END,
        "arguments swapped: C.transpose(1, 2) => C.transpose(2, 1)": "a transpose has no order",
    },
    "hra_columns": {"order: for v in done if": "orthonormal vectors are subtracted in any order"},
    "miss": {"order: for ": ANY_ORDER},
    "oft": {"order: for _ in range(terms": "the loop does not look at what it counts"},
    "randlora": {"order: [B[:, j] @ p['lambda_']": ANY_ORDER},
    "vblora": {"arguments swapped: pieces(p['logits_B']": "a transpose has no order"},
    "waveft": {
        "order: for i, j in ((0, 0)": ANY_ORDER,
        "arithmetic: signs[0] * signs[1] => signs[0] / signs[1]": "signs are their own inverse",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("oracle", FIELD)
def test_an_oracle_is_seen_wrong(oracle: str) -> None:
    """Each sign, factor, transpose, axis and order that is changed shows in a library that agreed before."""
    if not methods_bound_to(oracle):
        pytest.skip(f"no library with {oracle} is installed")
    left, tried = survivors(oracle)
    same = SAME.get(oracle, {})
    unseen = [slip for slip in left if not any(slip.startswith(known) for known in same)]
    assert not unseen
    assert tried > len(left) or oracle == "full"


@pytest.mark.parametrize("oracle", FIELD)
def test_an_oracle_says_where_it_is_from(oracle: str) -> None:
    assert FORMULAS[oracle].source in SOURCES
    assert FORMULAS[oracle].trains


@pytest.mark.parametrize("oracle", FIELD)
def test_an_oracle_declares_laws_that_there_are(oracle: str) -> None:
    options = {"axis": -1, "kind": "miss", "side": "in", "terms": None}
    laws = FORMULAS[oracle].laws({}, options)
    assert laws
    assert set(laws) <= {"unchanged_by", *KINDS}
