"""The pytest side: options, profiles, which variants to judge. What is made of the results:
properties/audit.
"""

import logging
import os
from collections.abc import Container, Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

import lora_lite as ll
from properties import audit, guests
from properties.audit import first_look
from properties.audit.first_look import LOOKED
from properties.crashes import Crashes
from properties.folding import Folding, Unfolding
from properties.freezing import Freezing
from properties.judging.claim import RUNNER, Claim
from properties.judging.outcome import NOT_APPLICABLE
from properties.judging.place import IN_A_CHECKOUT, PACKAGE
from properties.judging.profiles import check_database, register_profiles
from properties.judging.under_pytest import KEEPER, run_as_test
from properties.progress import Progress
from properties.regressions.record import add_options, keep
from properties.subjects.living import LIBRARIES, judged_methods, methods_of, names_of, part_of
from strategies import set_device

register_profiles()

ANY_CLAIMS = guests.CLAIMS / "any"
INSTRUMENTS = PACKAGE / "instruments"
MARKS = {
    "mutation": "injects silent failures and proves that each is caught",
    "instruments": "of the suite itself; deselected with --mutant; with --variant, those about no variant",
    "slow": "seconds and not milliseconds",
    "online": "opens references on the network (collected only with --online or -m online)",
    "distributed": "starts several processes",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lora-lite", "judging adapters")
    group.addoption(
        "--variant",
        action="append",
        metavar="NAME",
        help="judge only this variant (repeatable); not the library as a whole, nor the suite itself",
    )
    group.addoption(
        "--subject",
        action="append",
        metavar="LIBRARY",
        choices=sorted(LIBRARIES),
        help="judge this library's methods by the claims of properties/claims/any (repeatable); default:"
        " lora_lite by its own claims",
    )
    group.addoption(
        "--part",
        metavar="K/N",
        help="judge the K-th of N parts of the methods of --subject: many machines take one each, see"
        " python -m properties.audit merge",
    )
    group.addoption(
        "--variant-module",
        action="append",
        metavar="MODULE",
        help="import a module that registers variants, and judge these (others too with --variant)",
    )
    group.addoption(
        "--whole",
        action="store_true",
        help="with --variant: every claim, and not a first look, which is few examples of those that take"
        " neither seconds nor another package (so do CI, -k, -m, a file, --audit, and a budget or a profile)",
    )
    group.addoption("--max-examples", type=int, metavar="N", help="examples per property and variant")
    group.addoption("--device", default="cpu", help="build everything there, for example cuda")
    add_options(group)
    audit.add_options(group)


@pytest.hookimpl(tryfirst=True)  # before xdist's, for which no choice is "load"
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Workers take tests from one another: a claim's cost is not that of its neighbour."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


@pytest.hookimpl(trylast=True)  # after Hypothesis's own, which loads --hypothesis-profile
def pytest_configure(config: pytest.Config) -> None:
    # Six times faster than two threads on tensors this small (measured), and one worker a core.
    torch.set_num_threads(1)
    set_device(config.getoption("--device"))
    for name, what in MARKS.items():
        config.addinivalue_line("markers", f"{name}: {what}")
    # pytest listens to loggers that do not propagate too: this one is hundreds of empty lines a compilation.
    logging.getLogger("torch.__trace").disabled = True
    if not config.getoption("--hypothesis-profile", None):
        settings.load_profile("ci" if os.environ.get("CI") else "dev")
    examples = config.getoption("--max-examples")
    config.stash[LOOKED] = looked = first_look.wanted(config)
    if looked:
        examples = first_look.EXAMPLES
    if examples is not None:
        if examples < 1:
            raise pytest.UsageError(f"--max-examples is {examples}, wanted at least 1.")
        settings.register_profile("budget", settings(), max_examples=examples)
        settings.load_profile("budget")
    check_database()
    config.stash[RUNNER], config.stash[KEEPER] = run_as_test, keep
    guests.adopt(config)
    judged = ll.VARIANTS if _judges_own(config) else ()
    others = [m for name in config.getoption("--subject") or () for m in methods_of(name)]
    known_names = {*judged, *(name for method in others for name in names_of(method))}
    unknown = set(config.getoption("--variant") or ()) - known_names
    if unknown:
        known = ", ".join(sorted(known_names))
        raise pytest.UsageError(
            f"--variant: no variant {', '.join(sorted(unknown))}; known: {known}. One of your own wants"
            " --variant-module."
        )
    _check_part(config)
    config.pluginmanager.register(Crashes(config), "crashes")
    config.pluginmanager.register(Freezing(), "lora-lite-freezing")
    config.pluginmanager.register(folding := Folding(), "lora-lite-folding")
    config.pluginmanager.register(Unfolding(folding), "lora-lite-unfolding")
    if config.getoption("verbose") <= 0 and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Progress(config), "lora-lite-progress")
    audit.start(config)


def _judges_own(config: pytest.Config) -> bool:
    """Whether lora_lite's own claims are asked for."""
    return "lora_lite" in (config.getoption("--subject") or ["lora_lite"])


def _check_part(config: pytest.Config) -> None:
    """lora_lite's own claims are not split: they would run in every part."""
    if (given := config.getoption("--part")) is None:
        return
    try:
        part_of(given)
    except ValueError as error:
        raise pytest.UsageError(f"--part: {error}") from error
    if _judges_own(config):
        raise pytest.UsageError(
            "--part splits the methods of other libraries, named by --subject; lora_lite's own claims are"
            " judged by each run as a whole."
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise over the judged variants, in the order of registration, and over the methods of others."""
    if "method" in metafunc.fixturenames and (any_claim := getattr(metafunc.function, "claim", None)):
        about_it = [
            m for m in judged_methods(metafunc.config) if any_claim.standing_of(m).state != NOT_APPLICABLE
        ]
        metafunc.parametrize("method", about_it)
    if "variant" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--variant") or list(ll.VARIANTS)
        claim: Claim | None = getattr(metafunc.function, "claim", None)
        # One module's variants one after the other, where its claims share something costly of each.
        scope: Any = "module" if getattr(metafunc.module, "VARIANT_BY_VARIANT", False) else None
        metafunc.parametrize(
            "variant", [v for v in ll.VARIANTS if v in wanted and about(claim, v)], scope=scope
        )


def about(claim: Claim | None, variant: str) -> bool:
    """Whether a test says something of the variant: what only lacks something is collected, and skipped with
    the reason.
    """
    return claim is None or claim.standing(ll.VARIANTS[variant]).state != NOT_APPLICABLE


def pytest_report_header(config: pytest.Config) -> str | None:
    if (name := config.getoption("--mutant")) is not None:
        return f"mutant: {name} is on, so tests of the suite's own instruments are deselected"
    if not IN_A_CHECKOUT and config.getoption("--variant") is None:
        return "installed: silent failures and tests of the suite itself are in the repository alone"
    if config.stash[LOOKED]:
        few = f"at most {first_look.EXAMPLES} examples of a claim"
        return f"a first look: {few}, none that takes seconds or another package; --whole asks all of them"
    if names := config.getoption("--variant"):
        return f"variant: {', '.join(names)}; not the library as a whole, and of the suite what -m names"
    return None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Where -k names a user's variant, that is its whole name."""
    option = session.config.option
    given, option.keyword = option.keyword, guests.whole_names(option.keyword, guests.own_variants())
    try:
        return (yield)
    finally:
        option.keyword = given


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What says nothing about the judged variants is deselected, not skipped.

    Regressions come before any drawing.
    """
    mutant, variants, asked_for = (config.getoption(name) for name in ("--mutant", "--variant", "-m"))
    looked = config.stash[LOOKED]
    judging: list[pytest.Item] = []
    idle: list[pytest.Item] = []
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        about_a_variant = bool({"variant", "method", "regression"} & _parameters(item).keys())
        beside = is_idle(marks, about_a_variant, mutant=mutant, variants=variants, asked_for=asked_for)
        asked: Claim | None = getattr(getattr(item, "function", None), "claim", None)
        beside |= looked and asked is not None and not first_look.asks(asked)
        (judging if _judges(item) and not (beside and _of_ours(item)) else idle).append(item)
    if idle:
        config.hook.pytest_deselected(items=idle)
    items[:] = sorted(judging, key=_turn)


def _of_ours(item: pytest.Item) -> bool:
    """Whether it is a test of the suite, or a claim, and none of the repository that it runs in."""
    return item.path.is_relative_to(PACKAGE) or hasattr(getattr(item, "function", None), "claim")


def _turn(item: pytest.Item) -> tuple[int, ...]:
    """What is known to have failed once comes first, then claims in their turn; slow ones in the order in
    which they share what is costly; the suite's own tests last.
    """
    claim: Claim | None = getattr(getattr(item, "function", None), "claim", None)
    if "regression" in _parameters(item):
        return (0,)
    if claim is None:
        return (3,)
    return (2,) if claim.slow else (1, *claim.turn)


def is_idle(
    marks: Container[str],
    about_a_variant: bool,
    *,
    mutant: str | None,
    variants: list[str] | None,
    asked_for: str,
) -> bool:
    """Whether a test has nothing to say of what is asked: of the suite itself, red with any fault inside; or
    about none of the variants.

    asked_for: pytest's -m. Where that names the mark at all, pytest itself selects by it.
    """
    of_the_suite = [mark for mark in ("instruments", "mutation") if mark in marks]
    if mutant is not None:
        return bool(of_the_suite)
    if not variants:
        return False
    if of_the_suite:
        return not any(mark in asked_for for mark in of_the_suite)
    return not about_a_variant


def _suite_is_idle(config: pytest.Config) -> bool:
    """Whether none of its tests will run, and none is asked for by its path."""
    mutant, variants, marks = (config.getoption(name) for name in ("--mutant", "--variant", "-m"))
    if config.getoption("--online") or "online" in marks:
        return False
    given = [config.invocation_params.dir / arg.partition("::")[0] for arg in config.args]
    named = any(path.resolve().is_relative_to(INSTRUMENTS) for path in given)
    return not named and is_idle(set(MARKS), False, mutant=mutant, variants=variants, asked_for=marks)


def _judges(item: pytest.Item) -> bool:
    # pytest puts a sentinel of its own where there is nothing to parametrise with.
    return all(
        isinstance(_parameters(item).get(name, ""), str)
        for name in ("variant", "regression", "mutant", "method")
    )


def _parameters(item: pytest.Item) -> dict[str, object]:
    return getattr(getattr(item, "callspec", None), "params", {})


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What needs a network, or judges other libraries, is collected where it is asked for; and where only
    others are judged, nothing about lora_lite is. Tests of the suite that would all be left out are not
    imported first.
    """
    if collection_path == INSTRUMENTS and _suite_is_idle(config):
        return True
    if config.getoption("--subject") is None and collection_path == ANY_CLAIMS:
        return True
    if not _judges_own(config) and collection_path.name.startswith("test_"):
        return ANY_CLAIMS not in collection_path.parents
    asked = config.getoption("--online") or "online" in config.getoption("-m")
    return True if collection_path.name == "test_online.py" and not asked else None
