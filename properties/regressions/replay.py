"""Runs a fixture's recipe through the claim that it failed."""

from contextlib import nullcontext
from pathlib import Path

from hypothesis.errors import UnsatisfiedAssumption
from safetensors.torch import load_file

import lora_lite as ll
from properties.judging.assertions import Violation
from properties.judging.claim import Claim, load_claims
from properties.judging.outcome import NOT_APPLICABLE
from properties.regressions.fixture import Fixture, FixtureError, tensors_of
from strategies.random_numbers import served
from strategies.recipes import RecipeError, from_json


def replay(fixture: Fixture, path: Path) -> None:
    """Check the claim on the recipe, with the recorded tensors where there are some.

    Raises what the claim raises (a Violation with its case, or the exception of the code under test), and
    FixtureError where the fixture cannot be run any more.
    """
    claim = claim_of(fixture, path)
    kept = tensors_of(path)
    try:
        case = from_json(fixture.recipe)
        with served(load_file(kept)) if kept.exists() else nullcontext():
            claim.judge(case)
    except UnsatisfiedAssumption:
        # The claim is no longer about it.
        return
    except RecipeError as error:
        raise FixtureError(
            f"{path}: its recipe no longer builds. {error} Bring it up to date or delete the fixture."
        ) from error
    except Violation as violation:
        raise Violation(str(violation), tensor=violation.tensor, case=case) from None


def claim_of(fixture: Fixture, path: Path) -> Claim:
    """The claim that the fixture is about. Raises FixtureError where there is none for its variant."""
    claim = load_claims().get(fixture.claim)
    if fixture.variant not in ll.VARIANTS:
        raise FixtureError(
            f"{path}: there is no variant {fixture.variant}, known: {', '.join(ll.VARIANTS)}. {OWN} {REMEDY}"
        )
    if claim is None or claim.standing(ll.VARIANTS[fixture.variant]).state == NOT_APPLICABLE:
        raise FixtureError(
            f"{path}: there is no claim {fixture.claim} that draws cases of {fixture.variant}. {REMEDY}"
        )
    recipe = {"variant": fixture.recipe} if isinstance(fixture.recipe, str) else fixture.recipe
    if (other := recipe.get("variant", fixture.variant)) != fixture.variant:
        raise FixtureError(f"{path}: its recipe is of {other}, the fixture of {fixture.variant}. {REMEDY}")
    return claim


OWN = "If it is one of your own, name its module with --variant-module."
REMEDY = (
    "If it was renamed, rename it here (and the file as the next error says); if it is gone, delete the"
    " fixture."
)
