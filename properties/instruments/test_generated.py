"""Generated mutants are noticed, or known.txt says why not: a few generic ones, all of the interface.

All generic ones: `python -m properties.mutation generic --all --jobs 2`, which takes hours.
"""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import nn

import lora_lite as ll
from lora_lite import sketches
from properties.instruments.strangers import NAMES, registered
from properties.judging.tolerance import claim_bound
from properties.mutation import generic, score
from properties.mutation.interface import interface_mutants
from properties.mutation.score import known
from properties.mutation.survey import judged
from strategies import Turned
from strategies.options import BUILT_IN

# Of the generic ones: a survivor takes minutes.
FEW = 8

pytestmark = [pytest.mark.instruments, pytest.mark.mutation, pytest.mark.slow]


def test_some_generic_mutants_of_the_variants_are_noticed(request: pytest.FixtureRequest) -> None:
    """The same ones each time: many of the rest have not been looked at. Loud ones are no survivors."""
    full = settings().max_examples
    own = [mutant for mutant in generic.generated() if mutant.name.startswith("lora_lite.variants.")]
    some = generic.sample(own, 0, FEW)
    # In this process, which then knows what each claim runs for the tests that follow: none of these hangs.
    outcomes = [judged(mutant, examples=max(1, full // 10), full=full) for mutant in some]
    made = _scored("generic", outcomes, request)
    told = [name for name, why in made.survivors.items() if not why]
    assert not told, f"name the claim that should notice them in known.txt: {told}"
    assert made.killed > 0


def test_interface_mutants_are_noticed(variant: str, request: pytest.FixtureRequest) -> None:
    """Those of one variant, built in or a user's, but the equivalent ones: of them nothing is to be seen."""
    full = settings().max_examples
    few = max(1, full // 10)
    outcomes = [judged(mutant, examples=few, full=full) for mutant in interface_mutants(variant)]
    made = _scored("interface", outcomes, request)
    assert [name for name, why in made.survivors.items() if not why] == []
    assert made.killed > made.loud


def _scored(kind: score.Kind, outcomes: list[score.Outcome], request: pytest.FixtureRequest) -> score.Score:
    """The audit tells of them too."""
    request.node.user_properties.append(("surveyed", (kind, [vars(outcome) for outcome in outcomes])))
    return score.score(kind, outcomes)


def test_what_is_known_is_of_mutants_that_there_are() -> None:
    """A reason about code that is gone, or was changed since, is none."""
    names = {mutant.name for mutant in generic.generated()}
    gone = [name for name in known() if name not in names and name.partition(": ")[1] and "lora_lite" in name]
    assert gone == []
    assert all(one.reason for one in known().values())


def test_what_looks_at_a_weight_has_detached_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason given of `sketches._pass`, which nobody else calls."""
    seen: list[bool] = []
    passed = sketches._pass

    def noting(W: torch.Tensor, axis: Any) -> Any:
        seen.append(W.requires_grad)
        return passed(W, axis)

    monkeypatch.setattr(sketches, "_pass", noting)
    for layer in (nn.Linear(4, 2), nn.Linear(2, 4), Turned(torch.ones(4, 2), None)):
        sketches.look(layer, "rows")
    assert len(seen) > 3
    assert not any(seen)


@pytest.mark.parametrize("name", [*BUILT_IN, *NAMES])
def test_merging_leaves_the_bias_where_that_is_why_a_mutant_is_equivalent(name: str) -> None:
    """By the merged numbers: the reason given in known.txt holds for these variants, and for no other."""
    with nullcontext() if name in BUILT_IN else registered(name):
        _merges_its_bias(name)


def _merges_its_bias(name: str) -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(4, 4))
    bias = model[0].bias.detach().clone()
    kind: Any = ll.VARIANTS[name]
    ll.attach(
        model, kind.config_class(**({} if "r" in kind.config_class.unused else {"r": 4})), [torch.randn(9, 4)]
    )
    with torch.no_grad():
        for parameter in ll.adapters_of(model)[0].parameters():
            parameter.add_(torch.randn_like(parameter))
    ll.merge(model)
    off = (model[0].bias.detach() - bias).abs()
    same = bool((off <= claim_bound(bias.abs(), bias.dtype)).all())
    assert same == (f"{name}: merge_without_bias" in known())
