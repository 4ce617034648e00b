"""A first look at a variant: few examples of each claim that takes neither seconds nor another package.

`--variant` asks for it where nothing else says what or how much to judge, and outside of CI; --whole asks for
everything. What fails is as wrong as in a whole run; what holds is said to hold on so few examples, and no
verdict comes of it.
"""

import os
from collections.abc import Sequence

import pytest

from properties.audit.wording import counted
from properties.judging.claim import Claim
from properties.judging.needs import PACKAGES
from properties.judging.outcome import HELD, NOT_APPLICABLE, Outcome

EXAMPLES = 15
# Options that say which tests, or how much of them; and those that ask for what a first look cannot tell.
SAID = ("--whole", "--hypothesis-profile", "-k", "-m")
BEYOND = ("--audit", "--mutant", "--matrix", "--subject", "--online")
# Whether the run is one, decided once.
LOOKED = pytest.StashKey[bool]()


def wanted(config: pytest.Config) -> bool:
    """Whether variants are chosen, and neither a budget, nor tests by their names or files."""
    said = any(config.getoption(option, None) for option in (*SAID, *BEYOND))
    # 0 is a budget too, to be refused.
    said |= config.getoption("--max-examples", None) is not None
    folder = config.invocation_params.dir
    named = any("::" in arg or (folder / arg).is_file() for arg in config.args)
    return bool(config.getoption("--variant")) and not (said or named or os.environ.get("CI"))


def asks(claim: Claim) -> bool:
    """Whether it takes milliseconds, and imports no other package."""
    return not claim.slow and not {*PACKAGES} & {*claim.needs}


def told(outcomes: Sequence[Outcome], settled: Sequence[Outcome]) -> str:
    """What is said of a variant of which no claim failed; settled: of all claims, asked or not."""
    applies = sum(outcome.state != NOT_APPLICABLE for outcome in settled)
    held = [outcome for outcome in outcomes if outcome.state == HELD and not outcome.replayed]
    examples = counted(sum(outcome.examples for outcome in held), "example")
    return f"{len(held)} of {counted(applies, 'claim')} held on {examples}; --whole asks all of them"
