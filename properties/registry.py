"""A property is defined once: here is what the decorator makes of it, for pytest and for whoever else wants to run it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

import lora_lite as ll
from properties.assertions import Meter, Violation, measuring

Check = Callable[[Any], None]
Cases = Callable[[str], SearchStrategy[Any]]


@dataclass(frozen=True)
class Property:
    """One claim about every variant.

    name     as in the test's name, without "test_"
    check    raises Violation where the claim fails for a case
    cases    what Hypothesis draws for a variant
    share    of the budget of examples: less for cases that take long
    applies  the variants that the claim is about
    """

    name: str
    check: Check
    cases: Cases
    share: float
    applies: Callable[[type[ll.Variant]], bool]

    def run(self, variant: str, budget: settings) -> Meter:
        """Try up to the budget's examples. Raises Violation with the shrunk case in its message, or what else was raised."""
        meter = Meter()
        failing: dict[str, Any] = {}

        def check(case: Any) -> None:
            meter.examples += 1
            try:
                self.check(case)
            except Exception:
                # Hypothesis runs the minimal case last.
                failing["case"] = case
                raise

        # The name feeds the database key and the derandomised seed: each variant has its own.
        check.__name__ = check.__qualname__ = f"{self.name}__{variant}"
        wrapped = settings(budget, max_examples=max(1, round(budget.max_examples * self.share)))(
            given(self.cases(variant))(check)
        )
        try:
            with measuring(meter):
                wrapped()
        except Violation as violation:
            message = f"{violation}\nrecipe   {failing['case']!r}"
        else:
            return meter
        raise Violation(message)


PROPERTIES: dict[str, Property] = {}


def every_variant(
    cases: Cases, *, share: float = 1.0, applies: Callable[[type[ll.Variant]], bool] = lambda variant: True
) -> Callable[[Check], Callable[..., None]]:
    """Make a check of one drawn case into a test of every variant, and a Property of the same name."""

    def decorate(check: Check) -> Callable[..., None]:
        made = Property(check.__name__.removeprefix("test_"), check, cases, share, applies)
        PROPERTIES[made.name] = made

        def test(variant: str, request: pytest.FixtureRequest) -> None:
            run_as_test(made, variant, request)

        test.__name__ = test.__qualname__ = check.__name__
        test.__doc__, test.__module__ = check.__doc__, check.__module__
        test.applies = applies  # type: ignore[attr-defined]  # read by the plugin when it parametrises
        return test

    return decorate


def run_as_test(made: Property, variant: str, request: pytest.FixtureRequest) -> None:
    """Run under pytest's budget; the measurement travels with the report, to the audit and across workers."""
    measured: tuple[int | None, float | None] = (None, None)
    failure = None
    try:
        meter = made.run(variant, settings())
        measured = meter.examples, meter.worst
    except Violation as violation:
        failure = f'{made.name} [{variant}]\n{violation}\nreplay   pytest "{request.node.nodeid}"'
    finally:
        request.node.user_properties.append(("measured", (made.name, variant, *measured)))
    if failure is not None:
        pytest.fail(failure, pytrace=False)


def register_profiles() -> None:
    """dev: the default; ci: derandomised, a gate must not be a lottery; nightly: random and long."""
    from hypothesis import Phase
    from hypothesis.database import DirectoryBasedExampleDatabase

    common: dict[str, Any] = {
        "deadline": None,
        # Explaining costs 18 s against 2.5 s on five failing tests, and the recipe explains itself.
        "phases": [phase for phase in Phase if phase is not Phase.explain],
        "report_multiple_bugs": False,
        # Building a transformer is part of drawing some cases.
        "suppress_health_check": [HealthCheck.too_slow],
    }
    database = DirectoryBasedExampleDatabase(".hypothesis/examples")
    settings.register_profile("dev", max_examples=60, database=database, **common)
    # Hypothesis refuses a database beside derandomize: what a gate runs depends on the code alone.
    settings.register_profile("ci", max_examples=60, derandomize=True, **common)
    settings.register_profile("nightly", max_examples=1000, database=database, **common)
