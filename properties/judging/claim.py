"""A property is defined once: here is what the decorator makes of it, for pytest and for whoever else wants
to run it.
"""

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy

import lora_lite as ll
from properties.judging.assertions import Meter, Violation, measuring
from properties.judging.capabilities import capability
from properties.judging.crashes import note
from properties.regressions.record import last_lines
from properties.subjects.observe import seed_inits
from strategies.recipes import pasteable

Check = Callable[..., None]
Cases = Callable[[str], SearchStrategy[Any]]


@dataclass(frozen=True)
class Property:
    """One claim.

    name     as in the test's name, without "test_"
    check    raises Violation where the claim fails: for a drawn case, or, where cases is None, as such
    cases    what Hypothesis draws for a variant; None for a claim about the library as a whole
    share    of the budget of examples: less for cases that take long
    applies  the variants that the claim is about
    """

    name: str
    check: Check
    cases: Cases | None
    share: float
    applies: Callable[[type[ll.Variant]], bool]

    def judge(self, *case: Any) -> None:
        """The check, with torch's generator seeded: a case that fails once fails again, here and in
        replay.
        """
        note(" ".join(map(pasteable, case)))
        seed_inits(0)
        self.check(*case)

    def run(self, variant: str | None, budget: settings) -> Meter:
        """Try up to the budget's examples.

        Raises Violation with the shrunk case in its message, or what else was raised.
        """
        if self.cases is None or variant is None:
            with measuring(Meter(examples=1)) as meter:
                self.judge()
            return meter
        meter = Meter()
        failing: dict[str, Any] = {}

        def check(case: Any) -> None:
            meter.examples += 1
            try:
                self.judge(case)
            except Exception as error:
                # Hypothesis runs the minimal case last, and the first failing one is what it took to find it.
                failing["case"], failing["error"] = case, error
                failing.setdefault("examples", meter.examples)
                raise

        # The name feeds the derandomised seed: each variant has its own.
        check.__name__ = check.__qualname__ = f"{self.name}__{variant}"
        test = given(self.cases(variant))(check)
        # As hypothesis.find does. Left alone, Hypothesis has no key under --hypothesis-seed, which every
        # nightly shard has, and one that an edit of this file changes.
        test._hypothesis_internal_database_key = check.__name__.encode()  # type: ignore[attr-defined]
        examples = max(1, round(budget.max_examples * self.share))
        try:
            with measuring(meter):
                settings(budget, max_examples=examples)(test)()
        except Violation as violation:
            message = f"{violation}\nrecipe   {pasteable(failing['case'])}"
            raise Violation(message, case=failing["case"], examples=failing["examples"]) from None
        except Exception as error:
            # A crash of the code under test; an error of Hypothesis itself is about no one case.
            if error is failing.get("error"):
                error.case = failing["case"]  # read where the failure is recorded
                error.add_note(f"recipe   {pasteable(failing['case'])}")
            raise
        return meter


PROPERTIES: dict[str, Property] = {}


def load_properties() -> dict[str, Property]:
    """Every property of this package, whichever test files pytest was asked for."""
    for path in sorted((Path(__file__).parents[1] / "claims").glob("test_*.py")):
        importlib.import_module(f"properties.claims.{path.stem}")
    return PROPERTIES


def every_variant(
    cases: Cases,
    *,
    share: float = 1.0,
    applies: Callable[[type[ll.Variant]], bool] = lambda variant: True,
    shows: str | None = None,
) -> Callable[[Check], Callable[..., None]]:
    """Make a check of one drawn case into a test of every variant, and a Property of the same name.

    With `st.just` for cases the variant itself is the one case.

    shows: the capability, a column of the audit's table, that a variant has where the claim holds.
    """

    def decorate(check: Check) -> Callable[..., None]:
        made = _known(Property(check.__name__.removeprefix("test_"), check, cases, share, applies))

        def test(variant: str, request: pytest.FixtureRequest) -> None:
            with capability(request, variant, shows) if shows else nullcontext():
                run_as_test(made, variant, request)

        test.applies = applies  # type: ignore[attr-defined]  # read by the plugin when it parametrises
        return _named(test, check)

    return decorate


def fact(check: Callable[[], None]) -> Callable[..., None]:
    """Make a check without a drawn case, about the library as a whole, into a test and a Property of the same
    name.
    """
    made = _known(Property(check.__name__.removeprefix("test_"), check, None, 1.0, lambda variant: True))

    def test(request: pytest.FixtureRequest) -> None:
        run_as_test(made, None, request)

    return _named(test, check)


def _known(made: Property) -> Property:
    if PROPERTIES.setdefault(made.name, made).check.__module__ != made.check.__module__:
        raise ValueError(f"two properties are called {made.name}: in {made.check.__module__} and elsewhere")
    PROPERTIES[made.name] = made
    return made


def _named(test: Callable[..., None], check: Check) -> Callable[..., None]:
    test.__name__ = test.__qualname__ = check.__name__
    test.__doc__, test.__module__ = check.__doc__, check.__module__
    return test


def run_as_test(made: Property, variant: str | None, request: pytest.FixtureRequest) -> None:
    """Run under pytest's budget."""
    with reported(made.name, variant, request) as meter:
        found = made.run(variant, settings())
        meter.examples, meter.worst = found.examples, found.worst


@contextmanager
def reported(name: str, variant: str | None, request: pytest.FixtureRequest) -> Iterator[Meter]:
    """What the body measures travels with pytest's report, to the audit and across workers; failures are
    `told`.
    """
    meter, began = Meter(), time.perf_counter()
    result: tuple[int | None, dict[str, float]] = (None, {})
    try:
        with told(name, variant, request):
            yield meter
        result = meter.examples, meter.worst
    finally:
        if variant is not None:
            seconds = time.perf_counter() - began
            request.node.user_properties.append(("measured", (name, variant, *result, seconds)))


@contextmanager
def told(name: str, variant: str | None, request: pytest.FixtureRequest) -> Iterator[None]:
    """A violation is told in short, a crash in full.

    One on a case that was drawn is written down as a fixture of the property `name`, and the end of the
    message says where.
    """
    check = PROPERTIES[name].check if name in PROPERTIES else None
    try:
        yield
        return
    except Violation as violation:
        of = f" [{variant}]" if variant else ""
        failure = f"{name}{of}\n{violation}\n{last_lines(request, name, variant, violation, check)}"
    except Exception as error:
        error.add_note(last_lines(request, name, variant, error, check))
        raise
    # From None: the violation that is told here is not to be told a second time as this one's context.
    raise pytest.fail.Exception(failure, pytrace=False) from None
