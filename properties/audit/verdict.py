"""From settled outcomes to stages and verdicts, by a rule that is printed."""

from collections import Counter
from collections.abc import Sequence

from properties.audit.report import BUGGY, CORRECT, PARTIAL, Stage
from properties.audit.wording import counted
from properties.judging.outcome import (
    BROKEN,
    CRASHED,
    DECLARED,
    HELD,
    NOT_APPLICABLE,
    NOT_JUDGED,
    STAGES,
    Outcome,
)

RULE = [
    "A claim on a method is held, broken, crashed (the code under test raised what was not asked for, or"
    " killed the process), not applicable (by its nature the method has nothing that the claim is about), or"
    " not judged (an oracle, a package, examples or the run itself is missing, which is said).",
    "A claim that a variant declares not to hold of it, with a reason, is declared: it is seen to break where"
    " that is declared, and holds elsewhere; where it holds there too, it is broken.",
    "BUGGY: a claim is broken or crashed.",
    "PARTIAL: nothing is, but a claim that applies was not judged, or an oracle or a reference is missing.",
    "CORRECT: every claim that applies was judged, at no less than the default budget, and held or is"
    " declared.",
    "The report: BUGGY where a method or the library as a whole is; CORRECT where all of them are, none was"
    " left out, and every test of the suite itself passed; else PARTIAL.",
]


def stages_of(outcomes: Sequence[Outcome]) -> dict[str, Stage]:
    """The row of the summary, every stage of it."""
    return {name: _stage([o for o in outcomes if o.stage == name]) for name in STAGES}


def _stage(outcomes: Sequence[Outcome]) -> Stage:
    found = Counter(outcome.state for outcome in outcomes)
    states = (CRASHED, BROKEN, NOT_JUDGED, DECLARED, HELD)
    return Stage(
        next((state for state in states if found[state]), NOT_APPLICABLE),
        found[HELD],
        found[BROKEN] + found[CRASHED],
        found[NOT_JUDGED],
        largest_share(outcomes),
        found[DECLARED],
    )


def largest_share(outcomes: Sequence[Outcome]) -> float | None:
    """Of those that hold; None where none compares with a bound."""
    return max((s for o in outcomes if o.state == HELD for s in o.worst.values()), default=None)


def verdict_of(outcomes: Sequence[Outcome], missing: Sequence[str] = ()) -> tuple[str, str]:
    """The verdict and its reason in one line. missing: what the method lacks beside claims."""
    applies = [outcome for outcome in outcomes if outcome.state != NOT_APPLICABLE]
    failed = [outcome for outcome in applies if outcome.failed]
    held = [outcome for outcome in applies if outcome.state == HELD]
    open_ = [outcome for outcome in applies if outcome.state == NOT_JUDGED]
    of = f"of {counted(len(applies), 'claim')}"
    if failed:
        stages = [stage for stage in STAGES if any(outcome.stage == stage for outcome in failed)]
        how = " or ".join(dict.fromkeys(outcome.state for outcome in failed))
        return BUGGY, f"{len(failed)} {of} {how} ({', '.join(stages)})"
    declared = sum(outcome.state == DECLARED for outcome in applies)
    if open_ or missing:
        # What is missing beside claims is the reason of most that are open: it is said once.
        reasons = [f"{n} {why}" for why, n in Counter(outcome.why for outcome in open_).most_common()]
        told = f"{len(held)} {of} held, 0 broken, {len(open_)} not judged{_declared(declared)}"
        return PARTIAL, ": ".join([told, *(["; ".join([*missing, *reasons])] if reasons or missing else [])])
    examples = sum(outcome.examples for outcome in held)
    share = largest_share(held)
    margin = "" if share is None else f", worst margin {share:.2f} of the bound"
    return CORRECT, f"{len(held)} {of} held{_declared(declared)}, {counted(examples, 'example')}{margin}"


def _declared(count: int) -> str:
    return f", {count} declared not to" if count else ""
