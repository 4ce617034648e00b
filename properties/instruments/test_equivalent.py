"""Why nothing can notice a generated mutant: the reason in known.txt holds, or nobody could try whether."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch

import lora_lite as ll
from properties.instruments import known_reasons_abroad  # noqa: F401  # adds to CHECKS
from properties.instruments.known_reasons import CHECKS, adapted
from properties.instruments.strangers import NAMES, registered
from properties.judging.tolerance import claim_bound
from properties.mutation import Mutant, generic
from properties.mutation.interface import interface_mutants
from properties.mutation.mutant import named, plain
from properties.mutation.score import known
from properties.subjects.living import library
from strategies.options import BUILT_IN

pytestmark = pytest.mark.instruments

REASONS = {one.reason for one in known().values() if one.equivalent}
# By the tests below that ask every variant.
OF_VARIANTS = (
    "merging these leaves the bias what it was",
    "a shift has no matrix",
    "a gate is a diagonal matrix, and its own transpose",
)
# And why not.
NOT_CHECKED = {
    "without an accelerator there is one device": "of the machine, and not of the code",
    "an old checkpoint has keys of that kind alone": "what wrote such files is no release that is judged",
}


def mutants_of(told: str) -> list[Mutant]:
    """Those of which this is the reason."""
    names = {name for name, one in known().items() if one.equivalent and one.reason == told}
    places = sorted({name.partition(": ")[0] for name in names})
    if any(place.startswith("peft.") for place in places) and (missing := library("peft").missing()):
        pytest.skip(f"not judged: {missing}")
    for module, _, _ in (place.partition(":") for place in places if "strangers." in place):
        with registered(module.rpartition(".")[2]):
            pass  # imported, and not registered any longer
    functions = [plain(named(place)) for place in places]
    found = [m for function in functions for m in generic.mutants_of(function, ()) if m.name in names]
    assert {mutant.name for mutant in found} == names
    return found


@pytest.mark.parametrize("told", sorted(REASONS - {*OF_VARIANTS, *NOT_CHECKED}))
def test_the_reason_holds(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told in CHECKS, "write in known_reasons.py how to check it, or above why nobody can"
    CHECKS[told](mutants_of(told), monkeypatch)


def test_no_reason_is_checked_that_nobody_gives() -> None:
    assert {*CHECKS, *OF_VARIANTS, *NOT_CHECKED} <= REASONS


@pytest.fixture(params=[*BUILT_IN, *NAMES])
def square(request: pytest.FixtureRequest) -> Iterator[tuple[str, Any]]:
    """A variant's name, and a model of one square layer under it, trained."""
    name = request.param
    with nullcontext() if name in BUILT_IN else registered(name):
        model = adapted(ll.VARIANTS[name])
        with torch.no_grad():
            for parameter in ll.adapters_of(model)[0].parameters():
                parameter.add_(torch.randn_like(parameter))
        yield name, model


def test_merging_leaves_the_bias_where_that_is_why_a_mutant_is_equivalent(square: tuple[str, Any]) -> None:
    """By the merged numbers: the reason given in known.txt holds for these variants, and for no other."""
    name, model = square
    bias = model[0].bias.detach().clone()
    ll.merge(model)
    off = (model[0].bias.detach() - bias).abs()
    same = bool((off <= claim_bound(bias.abs(), bias.dtype)).all())
    assert same == (f"{name}: merge_without_bias" in known())


def test_an_update_is_its_own_transpose_where_that_is_why(square: tuple[str, Any]) -> None:
    """By the outputs of a square layer under the mutant; of these variants, and of no other."""
    name, model = square
    (mutant,) = (one for one in interface_mutants(name) if one.name == f"{name}: update_transposed")
    x = torch.randn(9, 4)
    with torch.no_grad():
        wanted = model(x)
        with mutant.injected():
            off = (model(x) - wanted).abs()
    same = bool((off <= claim_bound(wanted.abs().max(), wanted.dtype)).all())
    assert same == (f"{name}: update_transposed" in known())
