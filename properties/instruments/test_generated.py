"""Generated mutants are noticed, or known.txt says why not: a few generic ones, all of the interface.

All generic ones: `python -m properties.mutation generic --all --jobs 2`, which takes hours.
"""

import pytest
from hypothesis import settings

from properties.mutation import generic, score
from properties.mutation.interface import interface_mutants
from properties.mutation.score import known
from properties.mutation.survey import judged

# Of the generic ones: a survivor takes minutes.
FEW = 8

pytestmark = [pytest.mark.instruments, pytest.mark.mutation, pytest.mark.slow]


def test_some_generic_mutants_of_the_variants_are_noticed(request: pytest.FixtureRequest) -> None:
    """The same ones each time: many of the rest have not been looked at. Loud ones are no survivors."""
    full = settings().max_examples
    own = [mutant for mutant in generic.generated() if mutant.name.startswith("lora_lite.variants.")]
    some = generic.sample(own, 0, FEW)
    # In this process, which then knows what each claim runs for the tests that follow: none of these hangs.
    outcomes = [judged(mutant, examples=max(1, full // 10), full=full) for mutant in some]
    made = _scored("generic", outcomes, request)
    told = [name for name, why in made.survivors.items() if not why]
    assert not told, f"name the claim that should notice them in known.txt: {told}"
    assert made.killed > 0


def test_interface_mutants_are_noticed(variant: str, request: pytest.FixtureRequest) -> None:
    """Those of one variant, built in or a user's, but the equivalent ones: of them nothing is to be seen."""
    full = settings().max_examples
    few = max(1, full // 10)
    outcomes = [judged(mutant, examples=few, full=full) for mutant in interface_mutants(variant)]
    made = _scored("interface", outcomes, request)
    assert [name for name, why in made.survivors.items() if not why] == []
    assert made.killed > made.loud


def _scored(kind: score.Kind, outcomes: list[score.Outcome], request: pytest.FixtureRequest) -> score.Score:
    """The audit tells of them too."""
    request.node.user_properties.append(("surveyed", (kind, [vars(outcome) for outcome in outcomes])))
    return score.score(kind, outcomes)


def test_what_is_known_is_of_mutants_that_there_are() -> None:
    """A reason about code that is gone, or was changed since, is none."""
    names = {mutant.name for mutant in generic.generated()}
    gone = [name for name in known() if name not in names and name.partition(": ")[1] and "lora_lite" in name]
    assert gone == []
    assert all(one.reason for one in known().values())
