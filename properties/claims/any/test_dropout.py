"""Dropout in training: nothing in eval, anew in each call, on the adapter's branch, at its rate."""

from dataclasses import replace
from functools import partial
from math import sqrt

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from properties.judging.assertions import assert_holds, assert_identical, claim_is_about
from properties.judging.claim import ANY, claim
from properties.judging.tolerance import claim_bound
from properties.subjects.library import LibraryCase
from properties.subjects.living import (
    begin,
    input_dropouts_of,
    library,
    method_of,
    output,
    trained_cases,
)

# Not one half, of which the rest is as much.
RATE = 0.25
CALLS = 40
ROWS = 2000
# Of a share of ROWS: beyond six standard errors is once in 10^9.
ERRORS = 6.0


def dropped(method: str, *, inputs: bool = False) -> SearchStrategy[LibraryCase]:
    """With one of its dropouts on. inputs: of those that are said to act on what the adapter is given."""
    names = input_dropouts_of(method) if inputs else method_of(method).dropouts
    layers = trained_cases(method, dtypes=("float32",), depths=(1,), tokens=((8,),))
    return st.builds(_on, layers, st.sampled_from(names)) if names else st.nothing()


def _on(case: LibraryCase, name: str) -> LibraryCase:
    return replace(case, settings=tuple({**dict(case.settings), name: RATE}.items()))


def _off(case: LibraryCase) -> LibraryCase:
    given = {name: 0.0 if name in method_of(case.method).dropouts else v for name, v in case.settings}
    return replace(case, settings=tuple(given.items()))


@claim(dropped, stage="training", needs=("dropout",), subject=ANY, share=0.1)
def test_nothing_is_dropped_in_eval(case: LibraryCase) -> None:
    """The output is that of the same adapter without dropout, bit for bit."""
    x = case.x()
    got, wanted = (output(begin(one).model, x) for one in (case, _off(case)))
    assert_identical(got, wanted, what="the output in eval mode with dropout", like="that without")


@claim(dropped, stage="training", needs=("dropout",), subject=ANY, share=0.1)
def test_what_is_dropped_is_drawn_anew(case: LibraryCase) -> None:
    """In training, of so many calls one differs."""
    life, x = begin(case), case.x()
    changes = not torch.equal(output(life.model, x), output(case.build(), x))
    claim_is_about(changes and not library(case.library).nothing_to_drop(case))
    life.model.train()
    first = output(life.model, x)
    same = all(torch.equal(output(life.model, x), first) for _ in range(CALLS))
    assert_holds(not same, claim=f"{CALLS} calls in training give the same, with a dropout of {RATE}")


@claim(
    partial(dropped, inputs=True),
    stage="training",
    needs=("input dropout", "disable", "steady"),
    subject=ANY,
    share=0.1,
)
def test_dropout_is_on_the_adapters_branch_at_its_rate(case: LibraryCase) -> None:
    """Of one input alone: a row has what the base and the adapter's constant give, at the rate, or as much
    more as keeps the mean.
    """
    claim_is_about(library(case.library).draws_once(case))
    life = begin(case)
    x = torch.zeros(ROWS, case.linear.d_in)
    x[:, case.seed % case.linear.d_in] = 1.0
    with life.disabled():
        base, nothing = output(life.model, x[:1]), output(life.model, 0 * x[:1])
    without = base + output(life.model, 0 * x[:1]) - nothing
    added = output(life.model, x[:1]) - without
    size = float((base.abs() + nothing.abs() + without.abs() + added.abs()).max())
    error = claim_bound(size, case.dtype)
    claim_is_about(bool((added.abs() > 4 * error).any()))
    life.model.train()
    got = output(life.model, x)
    left, kept = (_near(got, each, error) for each in (without, without + added / (1 - RATE)))
    lost = int((~(left | kept)).sum())
    assert_holds(
        lost == 0, claim=f"{lost} of {ROWS} rows are neither without the input nor what keeps the mean"
    )
    share, slack = float(left.float().mean()), ERRORS * sqrt(RATE * (1 - RATE) / ROWS)
    assert_holds(abs(share - RATE) <= slack, claim=f"{share:.3f} of the rows are dropped, wanted {RATE}")


def _near(got: Tensor, wanted: Tensor, error: Tensor | float) -> Tensor:
    """Which rows are those, to rounding."""
    return ((got.double() - wanted.double()).abs() <= error).all(-1)
