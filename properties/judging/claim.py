"""A claim is declared once, beside its check, with all that anyone needs to know of it; here is the register.

@claim(trained_layers, stage="forward", needs=("oracle",), share=0.5)
def test_forward_agrees_with_the_oracle(case): ...
"""

import importlib
import re
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException, Unsatisfiable
from hypothesis.strategies import SearchStrategy

import lora_lite as ll
from properties.judging import apart, blanks, journal
from properties.judging.assertions import Violation
from properties.judging.declared import deviation_at
from properties.judging.failing import Failing, watching
from properties.judging.needs import MACHINE, NEEDS, Standing, unmet
from properties.judging.outcome import NOT_APPLICABLE, NOT_JUDGED, STAGES, Meter, NotJudgedError, measuring
from properties.subjects.attaching import seed_inits
from properties.subjects.bindings import binding_of
from properties.subjects.layer_runs import NoGradientError
from properties.subjects.library import OFFERS, LibraryCase, RefusedError
from properties.subjects.living import library, offers_of
from strategies.options import NoShapeError

Check = Callable[..., None]

Cases = Callable[[str], SearchStrategy[Any]]
# The subject of a claim that needs no formula, and judges the methods of every library.
ANY = "any"
# Stages that are judged first; the others follow as in STAGES.
FIRST = ("init", "forward", "gradient", "save", "scope")


@dataclass(frozen=True)
class Claim:
    """One claim.

    name        as in the test's name, without "test_"
    check       raises Violation where the claim fails: for a drawn case, or, where cases is None, as such
    cases       what Hypothesis draws for a method; None for a claim about the library as a whole
    stage       the part of an adapter's life that it is about, one of STAGES
    needs       what the method and the machine must offer, names of NEEDS and MACHINE
    share       of the budget of examples: less for cases that take long
    about       the methods that it is about; () for all
    capability  what a user may do with a method of which it holds, a column of the audit's table
    subject     the library whose own Python interface it looks into; None where it is about adapters of
                lora_lite; ANY where it is about those of every library, whose needs are names of OFFERS
    slow        it takes seconds and not milliseconds, so that no mutant is tried on it
    early       judged of a variant of which parts are still to be written, too
    budgeted    without drawn cases, it tries as much as the budget of examples allows all the same
    """

    name: str
    check: Check
    cases: Cases | None
    stage: str
    needs: tuple[str, ...] = ()
    share: float = 1.0
    about: tuple[str, ...] = ()
    capability: str | None = None
    subject: str | None = None
    slow: bool = False
    early: bool = False
    budgeted: bool = False

    @property
    def draws(self) -> bool:
        """Whether a smaller budget tries less: not where the library or the method itself is the one case."""
        return self.budgeted or self.cases not in (None, st.just)

    @property
    def turn(self) -> tuple[bool, int, bool, bool]:
        """When it is asked in a run: what is cheap before what takes a share of the budget or imports another
        package, of each by stage, and there what is about any adapter on any layer first.

        Of a fault that many claims see its user reads the first one.
        """
        costly = self.share < 1 or not MACHINE.keys().isdisjoint(self.needs)
        turns = [*FIRST, *(stage for stage in STAGES if stage not in FIRST)]
        return costly, turns.index(self.stage), self.subject is not None, not self.draws

    def standing(self, variant: type[ll.Variant] | None) -> Standing:
        """Whether it is judged of this method (None: of the library as a whole), and if not, why."""
        if (self.cases is None) != (variant is None):
            of = "the library as a whole" if self.cases is None else "methods"
            return Standing(NOT_APPLICABLE, f"about {of}")
        if variant is not None and self.about and variant.name not in self.about:
            return Standing(NOT_APPLICABLE, f"about {' and '.join(self.about)}")
        # What a method never can have comes before what it could be given.
        for by_nature, why in sorted(unmet(self.needs, variant), reverse=True):
            return Standing(NOT_APPLICABLE if by_nature else NOT_JUDGED, why)
        if variant is not None and not self.early and (left := blanks.of_the_variant(variant)):
            return Standing(NOT_JUDGED, f"not written yet: {left[0]}")
        return Standing(None)

    def standing_of(self, full: str) -> Standing:
        """As standing(), of a method of any library, by its full name."""
        if why := library(full.partition(":")[0]).missing():
            return Standing(NOT_JUDGED, why)
        if "oracle" in self.needs and binding_of(full) is None:
            return Standing(NOT_JUDGED, f"no formula yet: bind {full} in subjects/bindings")
        offered = {*offers_of(full), "oracle"}
        lacking = [need for need in self.needs if need not in offered]
        return Standing(NOT_APPLICABLE, f"{full} offers no {lacking[0]}") if lacking else Standing(None)

    def judge(self, *case: Any) -> None:
        """The check, with torch's generator seeded: what fails once fails again, here and in replay.

        Raises Violation, or the Exception of the code under test; Ctrl-C ends the run.
        """
        seed_inits(0)
        try:
            # pytest makes errors of warnings; another library warns of what it does on purpose.
            with warnings.catch_warnings(action="ignore") if self.subject == ANY else nullcontext():
                self.check(*case)
        except pytest.fail.Exception as failed:
            # Of pytest.raises, and no Exception.
            raise Violation(str(failed)) from None
        except NoGradientError as cut:
            raise Violation(str(cut), tensor="the gradient") from None
        except NoShapeError as refused:
            raise NotJudgedError(str(refused)) from refused
        except SystemExit as ended:
            raise RuntimeError(f"the code under test wants to end the process: {ended!r}") from ended

    def run(self, variant: str | None, budget: settings, meter: Meter | None = None) -> Meter:
        """Try up to the budget's examples. Raises Violation with the shrunk case, or what else was raised.

        meter: what notes the examples and their errors, up to the failure where there is one.
        """
        meter = meter or Meter()
        if self.cases is None or variant is None:
            meter.examples = 1
            with measuring(meter):
                self.judge()
            return meter
        failing = Failing()
        examples = max(1, round(budget.max_examples * self.share))
        refused: list[RefusedError] = []
        try:
            with measuring(meter):
                self._try(variant, settings(budget, max_examples=examples), meter, failing, refused)
        except Exception as error:
            if isinstance(error, NoShapeError):
                raise NotJudgedError(str(error)) from error
            # Else an error of Hypothesis itself, which is about no one case.
            if (found := failing.failure(error)) is None:
                raise
            for watch in watching():
                # What it raises is told already.
                with watch(), suppress(Exception):
                    self.judge(failing.case)
            raise found from None
        finally:
            meter.refused(len(refused))
        if refused and meter.examples == 0:
            raise NotJudgedError(f"all {len(refused)} drawn settings are refused, the last by {refused[-1]}")
        meter.insist()
        return meter

    def _try(
        self, variant: str, budget: settings, meter: Meter, failing: Failing, refused: list[RefusedError]
    ) -> None:
        """The check as a test of Hypothesis's: counts examples, keeps the failing and the refused ones. What
        settings drawing left at their first value is tried after it.
        """
        judged: list[LibraryCase] = []

        def check(case: Any) -> None:
            if self.subject != ANY and deviation_at(self.name, variant, case):
                return
            meter.examples += 1
            if self.subject == ANY and failing.small_enough(case):
                return
            journal.note(case)
            try:
                self.judge(case)
            except HypothesisException:
                # The claim is not about this case: it counts for nothing.
                meter.examples -= 1
                raise
            except RefusedError as error:
                # Not an example of anything, unless nothing else is drawn.
                refused.append(error)
            except Exception as error:
                failing.keep(case, error, meter.examples)
                raise
            else:
                judged.append(case)

        budget(self.drawing(variant, check))()
        for cases in apart.left_out(variant, judged) if self.subject == ANY else ():
            # One that the claim is not about counts for nothing, as among the drawn ones.
            with suppress(Unsatisfiable):
                settings(budget, max_examples=1)(replace(self, cases=cases).drawing(variant, check))()

    def drawing(self, variant: str, check: Callable[[Any], None]) -> Callable[[], None]:
        """This check as a test of Hypothesis's, of the cases of the claim."""
        assert self.cases is not None
        # The name feeds the derandomised seed: each variant has its own.
        check.__name__ = check.__qualname__ = re.sub(r"\W", "_", f"{self.name}__{variant}")
        test = given(self.cases(variant))(check)
        # As hypothesis.find does. Left alone, Hypothesis has no key under --hypothesis-seed, which every
        # nightly shard has, and one that an edit of this file changes.
        test._hypothesis_internal_database_key = check.__name__.encode()  # type: ignore[attr-defined]
        return test


CLAIMS: dict[str, Claim] = {}


def load_claims() -> dict[str, Claim]:
    """Every claim of properties/claims, whichever files pytest was asked for: lora_lite's own audit, mutants
    and fixtures know nothing of those about every library.
    """
    _import_all("properties.claims")
    return {name: made for name, made in CLAIMS.items() if made.subject != ANY}


def load_claims_of_any() -> dict[str, Claim]:
    """Every claim of properties/claims/any, in the order of the stages."""
    _import_all("properties.claims.any")
    found = {name: made for name, made in CLAIMS.items() if made.subject == ANY}
    return dict(sorted(found.items(), key=lambda item: STAGES.index(item[1].stage)))


@cache
def _import_all(package: str) -> None:
    folder = Path(__file__).parents[2].joinpath(*package.split("."))
    for path in sorted(folder.glob("test_*.py")):
        importlib.import_module(f"{package}.{path.stem}")


def claim(
    cases: Cases | None = None, *, stage: str, **declared: Any
) -> Callable[[Check], Callable[..., None]]:
    """Declare a check to be a claim: of every method, on drawn cases, or, without cases, of the library.

    The check becomes a pytest test of the same name. With `st.just` for cases the method itself is the one
    case. declared: the other fields of Claim. Raises ValueError for an unknown stage or need, and for a name
    that another claim has.
    """

    def decorate(check: Check) -> Callable[..., None]:
        made = Claim(check.__name__.removeprefix("test_"), check, cases, stage, **declared)
        register(made)

        if cases is None:

            def test(request: pytest.FixtureRequest) -> None:
                request.config.stash[RUNNER](made, None, request)

        elif made.subject == ANY:

            def test(method: str, request: pytest.FixtureRequest) -> None:  # type: ignore[misc]
                request.config.stash[RUNNER](made, method, request)

        else:

            def test(variant: str, request: pytest.FixtureRequest) -> None:  # type: ignore[misc]
                request.config.stash[RUNNER](made, variant, request)

        test.__name__ = test.__qualname__ = check.__name__
        test.__doc__, test.__module__ = check.__doc__, check.__module__
        test.claim = made  # type: ignore[attr-defined]  # read by the plugin when it parametrises
        return pytest.mark.slow(test) if made.slow else test

    return decorate


# How a claim becomes a test: judging.under_pytest, which the plugin puts here.
RUNNER = pytest.StashKey[Callable[[Claim, str | None, pytest.FixtureRequest], None]]()


def register(made: Claim) -> None:
    """Make it known. Raises ValueError, see claim()."""
    if made.stage not in STAGES:
        raise ValueError(f"{made.name}: found the stage {made.stage!r}, wanted one of {', '.join(STAGES)}")
    known_needs: Any = MACHINE if made.cases is None else {**NEEDS, **MACHINE}
    known_needs = OFFERS if made.subject == ANY else known_needs
    if unknown := [need for need in made.needs if need not in known_needs]:
        raise ValueError(f"{made.name}: found the needs {unknown}, wanted some of {', '.join(known_needs)}")
    known = CLAIMS.setdefault(made.name, made)
    if known.check.__module__ != made.check.__module__:
        raise ValueError(
            f"two claims are called {made.name}: in {known.check.__module__} and in {made.check.__module__}"
        )
    CLAIMS[made.name] = made
