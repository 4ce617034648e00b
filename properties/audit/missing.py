"""What a variant has beside its code, so that it can be judged: by what it is without, and what to do about
it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import lora_lite as ll
from properties.judging.needs import has_oracle, says_what_trains
from properties.judging.peft_layers import NO_PEER, PEFT
from properties.judging.proposals import proposed
from properties.mutation import load_catalogue
from strategies.options import BUILT_IN


@dataclass(frozen=True)
class Missing:
    """One thing that is not there. for_correct: whether the verdict CORRECT wants it."""

    what: str
    remedy: str
    for_correct: bool = False


def _mutated(variant: type[ll.Variant]) -> bool:
    """Whether a silent failure of the catalogue is in its own module."""
    mutants = load_catalogue().values()
    return any(target.__module__ == variant.__module__ for m in mutants for target in m.targets)


# In the order in which they let more be judged.
WANTED: tuple[tuple[Callable[[type[ll.Variant]], bool], Missing], ...] = (
    (
        has_oracle,
        Missing(
            "no oracle",
            "write its formula in float64, importing nothing of the library, and put it into ORACLES",
        ),
    ),
    (
        lambda variant: says_what_trains(variant) or not has_oracle(variant),
        Missing(
            "no word on what is trained",
            "name the tensors that the paper trains: Oracle(…, trained=frozenset({…}))",
        ),
    ),
    (
        lambda variant: variant.reference is not None,
        Missing(
            "no reference",
            "declare reference = ll.Reference(arxiv=…, titles=(…,)): which paper says what it should compute",
            for_correct=True,
        ),
    ),
    (
        lambda variant: variant.name in PEFT or variant.name in NO_PEER,
        Missing(
            "no peer",
            "bind peft's layer in judging/peft_layers.py (PEFT), or say why there is none (NO_PEER)",
        ),
    ),
    (
        _mutated,
        Missing(
            "no silent failures",
            "add some of its own to the catalogue, to see that the claims notice them",
        ),
    ),
)


def of(variant: type[ll.Variant]) -> list[Missing]:
    """What this variant is without, most telling first."""
    return [missing for has, missing in WANTED if not has(variant)]


def laws_of(variant: type[ll.Variant]) -> list[str]:
    """What its formula keeps by measurement, and does not declare; ours declare all that a test measures."""
    own = variant.name in BUILT_IN
    return [] if own else [f"a law not declared: {told}" for told in proposed(variant.name)]
