"""The score in three lines: of the named, the generic and the interface mutants, how many are noticed."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from properties.mutation.table import reasons

KNOWN = Path(__file__).parent / "known.txt"
STAYS = Path(__file__).parent / "stays.txt"
Kind = Literal["named", "generic", "interface", "abroad"]
State = Literal["killed", "loud", "survived", "equivalent"]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    state   "killed": a claim was violated; "loud": an exception, an endless loop; "survived": neither;
            "equivalent": not tried, since known.txt says why nothing can notice
    claim   that noticed, on `variant`; "" for none
    seconds by the clock, as survey() took them
    """

    mutant: str
    state: State
    claim: str = ""
    variant: str = ""
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Known:
    """Why a generated mutant is not noticed: no claim could, or one that is yet to be written would."""

    equivalent: bool
    reason: str


@dataclass(frozen=True)
class Score:
    """killed: a claim was violated. loud: an exception or an endless loop, which nobody overlooks. survived:
    nothing noticed, and something should. equivalent: nothing can notice, by its reason in known.txt.
    """

    kind: Kind
    killed: int
    loud: int
    survived: int
    equivalent: int
    survivors: Mapping[str, str] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """In one line."""
        judged = self.killed + self.survived
        share = f"{self.killed / judged:.1%}" if judged else "none"
        return (
            f"{self.kind:9}  {share} noticed: {self.killed} killed, {self.survived} survived,"
            f" {self.equivalent} equivalent; {self.loud} loud"
        )


@cache
def known() -> dict[str, Known]:
    """What known.txt says, by the mutant's name."""
    return {name: Known(section == "equivalent", reason) for section, name, reason in reasons(KNOWN)}


def is_equivalent(mutant: str) -> bool:
    """Whether nothing can notice it, as known.txt says."""
    return mutant in known() and known()[mutant].equivalent


@cache
def stays() -> dict[str, str]:
    """By claim that alone catches nothing of the catalogue, what it would see if another one went."""
    return {name: reason for _, name, reason in reasons(STAYS)}


def score(kind: Kind, outcomes: Iterable[Outcome]) -> Score:
    """Of these outcomes; of each survivor the claim that would notice it, "" where nobody has said."""
    became = [
        (o.mutant, "equivalent" if o.state == "survived" and is_equivalent(o.mutant) else o.state)
        for o in outcomes
    ]
    counts = Counter(state for _, state in became)
    survived = sorted(name for name, state in became if state == "survived")
    why = {name: known()[name].reason if name in known() else "" for name in survived}
    return Score(kind, **{state: counts[state] for state in get_args(State)}, survivors=why)
