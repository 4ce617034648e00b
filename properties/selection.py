"""Which tests a run leaves out, and in what order it takes the others."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

import pytest

import lora_lite as ll
from properties.audit import first_look
from properties.audit.first_look import LOOKED
from properties.judging.claim import Claim
from properties.judging.outcome import NOT_APPLICABLE
from properties.judging.place import PACKAGE

INSTRUMENTS = PACKAGE / "instruments"
MARKS = {
    "mutation": "injects silent failures and proves that each is caught",
    "instruments": "of the suite itself; with --mutant, --variant or --audit only where asked for",
    "slow": "seconds and not milliseconds",
    "online": "opens references on the network (collected only with --online or -m online)",
    "distributed": "starts several processes",
}


@dataclass(frozen=True)
class Asked:
    """What is asked of a run: under which mutant, about which variants, and whether for an audit's page.

    words: pytest's -m. Where that names a mark at all, pytest itself selects by it.
    """

    mutant: str | None = None
    variants: Sequence[str] | None = None
    words: str = ""
    audited: bool = False


def about(claim: Claim | None, variant: str) -> bool:
    """Whether a test says something of the variant: what only lacks something is collected, and skipped with
    the reason.
    """
    return claim is None or claim.standing(ll.VARIANTS[variant]).state != NOT_APPLICABLE


def sorted_out(
    config: pytest.Config, items: Sequence[pytest.Item]
) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Those that run, and those with nothing to say of what is asked."""
    looked, wanted = config.stash[LOOKED], _asked(config)
    judging: list[pytest.Item] = []
    idle: list[pytest.Item] = []
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        about_a_variant = bool({"variant", "method", "regression"} & _parameters(item).keys())
        beside = is_idle(marks, about_a_variant, wanted)
        claim: Claim | None = getattr(getattr(item, "function", None), "claim", None)
        beside |= looked and claim is not None and not first_look.asks(claim)
        (judging if _judges(item) and not (beside and _of_ours(item)) else idle).append(item)
    return judging, idle


def _of_ours(item: pytest.Item) -> bool:
    """Whether it is a test of the suite, or a claim, and none of the repository that it runs in."""
    return item.path.is_relative_to(PACKAGE) or hasattr(getattr(item, "function", None), "claim")


def turn(item: pytest.Item) -> tuple[int, ...]:
    """What is known to have failed once comes first, then claims in their turn; slow ones in the order in
    which they share what is costly; the suite's own tests last.
    """
    claim: Claim | None = getattr(getattr(item, "function", None), "claim", None)
    if "regression" in _parameters(item):
        return (0,)
    if claim is None:
        return (3,)
    return (2,) if claim.slow else (1, *claim.turn)


def is_idle(marks: Container[str], about_a_variant: bool, asked: Asked) -> bool:
    """Whether a test has nothing to say of what is asked: of the suite itself, red with any fault inside, or
    told in no line of an audit; or about none of the variants.
    """
    of_the_suite = [mark for mark in ("instruments", "mutation") if mark in marks]
    if asked.mutant is not None:
        return bool(of_the_suite)
    if asked.audited and of_the_suite == ["instruments"]:
        return "instruments" not in asked.words
    if not asked.variants:
        return False
    if of_the_suite:
        return not any(mark in asked.words for mark in of_the_suite)
    return not about_a_variant


def _asked(config: pytest.Config) -> Asked:
    """By its path, or by -k, a test of the suite is asked for in an audit too."""
    option = config.getoption
    audited = bool(option("--audit")) and not (_suite_is_named(config) or option("-k"))
    return Asked(mutant=option("--mutant"), variants=option("--variant"), words=option("-m"), audited=audited)


def _suite_is_named(config: pytest.Config) -> bool:
    """Whether its tests are asked for by their path."""
    given = [config.invocation_params.dir / arg.partition("::")[0] for arg in config.args]
    return any(path.resolve().is_relative_to(INSTRUMENTS) for path in given)


def suite_is_idle(config: pytest.Config) -> bool:
    """Whether none of its tests will run, and none is asked for by its path."""
    if config.getoption("--online") or "online" in config.getoption("-m"):
        return False
    return not _suite_is_named(config) and is_idle(set(MARKS), False, _asked(config))


def _judges(item: pytest.Item) -> bool:
    # pytest puts a sentinel of its own where there is nothing to parametrise with.
    return all(
        isinstance(_parameters(item).get(name, ""), str)
        for name in ("variant", "regression", "mutant", "method")
    )


def _parameters(item: pytest.Item) -> dict[str, object]:
    return getattr(getattr(item, "callspec", None), "params", {})
