"""What a claim rests on: the adapter alone, declared laws, an oracle, or what was written for one method.

To judge mutants by some of them alone tells what a user has who wrote no oracle, and what each is worth.
"""

from collections.abc import Collection

from properties.judging.claim import Claim
from properties.oracles import ORACLES

# free    need neither formula nor declaration   laws   what a variant declares of its own formula
# oracle  ask the float64 oracle                 named  written for one method or the library, or ask a peer
EVIDENCE = ("free", "laws", "oracle", "named")
LAWS = "declared_laws_hold"

_asked: Collection[str] = EVIDENCE


def kind_of(made: Claim) -> str:
    """Which of EVIDENCE a claim is."""
    if made.name == LAWS:
        return "laws"
    if made.cases is None or made.about or {"peer", "peft"} & {*made.needs}:
        return "named"
    return "oracle" if {"oracle", "what is trained"} & {*made.needs} else "free"


def judge_by(kinds: Collection[str]) -> None:
    """From now on, in this process, mutants are judged by claims of these kinds alone.

    Without "oracle" there is none, and a variant's own code in float64 stands in for it.
    """
    global _asked
    _asked = kinds
    if "oracle" not in kinds:
        ORACLES.clear()


def asked(made: Claim) -> bool:
    """Whether it is of a kind that mutants are judged by."""
    return kind_of(made) in _asked
