"""A first look at a variant: few examples of each claim that takes neither seconds nor another package.

`--variant` asks for it where nothing else says how much to judge; --whole asks for everything. What fails is
as wrong as in a whole run; what holds is said to hold on so few examples, and no verdict comes of it.
"""

from collections.abc import Sequence

import pytest

from properties.audit.provenance import narrowing
from properties.audit.wording import counted
from properties.judging.claim import Claim
from properties.judging.needs import PACKAGES
from properties.judging.outcome import HELD, Outcome

EXAMPLES = 15
# Options that say how much to judge, or ask for what a first look cannot tell.
SAID = ("--whole", "--audit", "--mutant", "--matrix", "--max-examples", "--hypothesis-profile", "--subject")


def wanted(config: pytest.Config) -> bool:
    """Whether the run has variants chosen, and nothing else that narrows or widens it."""
    variants = config.getoption("--variant") or ()
    said = any(config.getoption(option, None) for option in SAID)
    return bool(variants) and not said and len(narrowing(config)) == len(variants)


def asks(claim: Claim) -> bool:
    """Whether it takes milliseconds, and imports no other package."""
    return not claim.slow and not {*PACKAGES} & {*claim.needs}


def told(outcomes: Sequence[Outcome]) -> str:
    """What is said of a variant of which nothing failed."""
    drawn = [outcome for outcome in outcomes if not outcome.replayed and outcome.state == HELD]
    examples = counted(sum(outcome.examples for outcome in drawn), "example")
    return f"{counted(len(drawn), 'claim')} held on {examples}, none failed; --whole judges everything"
