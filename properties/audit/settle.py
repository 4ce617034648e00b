"""One outcome for every claim and method: what the run left of it, or why it left nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import lora_lite as ll
from properties.judging.claim import Claim, load_claims
from properties.judging.outcome import (
    BROKEN,
    CRASHED,
    DECLARED,
    HELD,
    NOT_APPLICABLE,
    NOT_JUDGED,
    Outcome,
)
from properties.judging.profiles import DEFAULT_EXAMPLES

# Of several outcomes of one claim the worst counts.
ORDER = (CRASHED, BROKEN, NOT_JUDGED, DECLARED, HELD, NOT_APPLICABLE)


def settled(outcomes: Iterable[Outcome], method: str | None, narrowed: str = "") -> list[Outcome]:
    """Every claim of the register on this method (None: the library as a whole), in the register's order."""
    left: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.method == method:
            left.setdefault(outcome.claim, []).append(outcome)
    claims = [claim for claim in load_claims().values() if (claim.cases is None) == (method is None)]
    return [_settle(claim, method, left.get(claim.name, []), narrowed) for claim in claims]


def _settle(claim: Claim, method: str | None, left: Sequence[Outcome], narrowed: str) -> Outcome:
    nothing = Outcome(claim.name, method, claim.stage, NOT_JUDGED)
    variant = None if method is None else ll.VARIANTS[method]
    if (standing := claim.standing(variant)).state is not None:
        return replace(nothing, state=standing.state, why=standing.why)
    # Replayed fixtures judge no claim by themselves: they are a few cases that are known to hold.
    if all(outcome.replayed and not outcome.failed for outcome in left):
        return replace(nothing, why=f"not run ({narrowed})" if narrowed else "not run")
    return _within_budget(claim, united(left))


def united(outcomes: Sequence[Outcome], order: Sequence[str] = ORDER) -> Outcome:
    """The first of them in this order of states, with all examples and seconds, and the largest errors."""
    worst = min(outcomes, key=lambda outcome: order.index(outcome.state))
    shares: dict[str, float] = {}
    for outcome in outcomes:
        for dtype, share in outcome.worst.items():
            shares[dtype] = max(shares.get(dtype, 0.0), share)
    return replace(
        worst,
        worst=shares,
        examples=sum(outcome.examples for outcome in outcomes),
        budget=max(outcome.budget for outcome in outcomes),
        seconds=sum(outcome.seconds for outcome in outcomes),
        shown={name: figures for outcome in outcomes for name, figures in outcome.shown.items()},
    )


def _within_budget(claim: Claim, outcome: Outcome) -> Outcome:
    """What holds for few examples is not said to hold; a claim that draws nothing has no budget."""
    if outcome.state != HELD or not claim.draws or outcome.budget >= DEFAULT_EXAMPLES:
        return outcome
    why = f"a budget of {outcome.budget}, wanted the default of {DEFAULT_EXAMPLES} examples"
    return replace(outcome, state=NOT_JUDGED, why=why)
