"""What a variant declares not to be so of itself: such a claim must break there, and nowhere else."""

from typing import Any

from hypothesis import Phase, settings

import lora_lite as ll
from properties.judging.assertions import Violation
from properties.judging.profiles import DEFAULT_EXAMPLES
from strategies.options import build_config, simplest


class _BrokenError(Exception):
    """As is declared."""


def deviations_of(claim: str, variant: str | None) -> list[ll.Deviation]:
    """Those of a variant of lora_lite that are about this claim."""
    kind = ll.VARIANTS.get(variant or "")
    return [one for one in kind.deviations if one.claim == claim] if kind else []


def deviation_at(claim: str, variant: str, case: Any) -> ll.Deviation | None:
    """The one that is declared for the settings of this case, if any."""
    found = deviations_of(claim, variant)
    return next((one for one in found if one.where(_config(variant, case))), None)


def _config(variant: str, case: Any) -> ll.AdapterConfig:
    """The case's own; where it has none, as a fixed model, the simplest."""
    options = getattr(getattr(case, "layer", case), "options", None)
    return build_config(variant, options if isinstance(options, tuple) else simplest(variant))


def confirm(claim: Any, variant: str, budget: settings) -> str:
    """Why the claim breaks where it is declared to; "" where nothing is declared.

    Raises Violation where it holds there: what is declared is stale, or about settings that nobody draws.
    """
    told = []
    for one in deviations_of(claim.name, variant):
        tried = _holding(claim, variant, one, budget)
        if tried is not None:
            found = "no settings that are drawn are so"
            if tried:
                found = f"it holds in all {tried} cases of these"
            raise Violation(
                f"{variant} declares that this does not hold of it ({one.why}), and {found}: take the"
                " deviation out, or mend its condition"
            )
        told.append(one.why)
    return "; ".join(told)


def _holding(claim: Any, variant: str, deviation: ll.Deviation, budget: settings) -> int | None:
    """Of how many cases that the deviation is about the claim holds; None where it breaks, as declared."""
    tried = 0

    def check(case: Any) -> None:
        nonlocal tried
        if deviation_at(claim.name, variant, case) is deviation:
            tried += 1
            try:
                claim.judge(case)
            except Violation as error:
                # Whatever else is raised, a crash of the method's too, nobody has declared.
                raise _BrokenError from error

    # With a smaller budget what is declared might just not be drawn.
    most = max(budget.max_examples, DEFAULT_EXAMPLES)
    try:
        settings(budget, phases=(Phase.generate,), database=None, max_examples=most)(
            claim.drawing(variant, check)
        )()
    except _BrokenError:
        return None
    return tried
