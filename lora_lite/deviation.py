"""What a variant declares not to be so of itself, of what a suite claims of all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def always(config: Any) -> bool:
    """Whatever the settings."""
    return True


@dataclass(frozen=True)
class Deviation:
    """A claim of the property suite that does not hold of a variant, and is not meant to.

        deviations = (ll.Deviation("every_entry_moves_in_every_dtype", "γ starts at 1, as in the paper: ...",
                                   lambda config: config.dtype == torch.bfloat16),)

    claim  its name
    why    a sentence, which the suite shows in place of a failure
    where  of which configs; all of them where it is left out

    The claim is expected to break there: where it holds, the declaration is stale, which is a failure.
    """

    claim: str
    why: str
    where: Callable[[Any], bool] = always
