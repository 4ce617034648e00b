"""Folding an adapter into the base and taking it out again."""

import copy
from contextlib import suppress
from functools import partial

from torch import nn

from properties.judging.assertions import (
    assert_all_identical,
    assert_holds,
    assert_identical,
    assert_runs,
    assert_within,
)
from properties.judging.claim import ANY, claim
from properties.judging.own_bound import own_output
from properties.judging.tolerance import Bounded, claim_bound
from properties.subjects.library import LibraryCase, Life, RefusedError, plain
from properties.subjects.living import begin, move, output, trained_cases

# An inverse, and a width that blocks do not divide, are taken in unmerge alone.
all_dtypes = partial(trained_cases, dtypes=("float32", "bfloat16", "float64"))


def _assert_gives(model: nn.Module, case: LibraryCase, wanted: Bounded, what: str) -> None:
    """To the roundings of both: of the adapted layer, and of what the model holds now."""
    error = wanted.error + own_output(model, case.x()).error
    assert_within(output(model, case.x()), wanted.value, error, what=what, like="what it was unmerged")


def _begun(case: LibraryCase) -> tuple[Life, Bounded]:
    life = begin(case)
    return life, own_output(life.model, case.x())


@claim(trained_cases, stage="merge", needs=("merge",), subject=ANY, share=0.2)
def test_a_merged_adapter_gives_what_it_gave(case: LibraryCase) -> None:
    """Within the rounding of the merged weight."""
    life, wanted = _begun(case)
    life.merge()
    _assert_gives(life.model, case, wanted, "the output, merged")


@claim(trained_cases, stage="merge", needs=("absorb",), subject=ANY, share=0.2)
def test_an_absorbed_adapter_gives_what_it_gave(case: LibraryCase) -> None:
    """And what is left is the plain model: the same tensors under the same names."""
    life, wanted = _begun(case)
    names = sorted(plain(case.build()))
    left = life.absorb()
    _assert_gives(left, case, wanted, "the output of the plain model")
    assert_holds(sorted(plain(left)) == names, claim=f"left are {sorted(plain(left))}, wanted {names}")


@claim(all_dtypes, stage="merge", needs=("merge", "unmerge"), subject=ANY, share=0.4)
def test_unmerging_gives_it_back(case: LibraryCase) -> None:
    """The function, and the base to the rounding of one sum."""
    life, wanted = _begun(case)
    before = {name: tensor.clone() for name, tensor in life.base().items()}
    life.merge()
    merged = {name: tensor.clone() for name, tensor in life.base().items()}
    life.unmerge()
    _assert_gives(life.model, case, wanted, "the output, merged and unmerged,")
    for name, tensor in life.base().items():
        terms = before[name].double().abs().max() + merged[name].double().abs().max()
        error = claim_bound(terms, tensor.dtype)
        what = f"{name} of the base, merged and unmerged,"
        assert_within(tensor, before[name], error, what=what, like="as before")


@claim(trained_cases, stage="merge", needs=("merge", "unmerge"), subject=ANY, share=0.2)
def test_unmerging_what_is_not_merged_changes_nothing(case: LibraryCase) -> None:
    """It is refused or harmless."""
    life, wanted = _begun(case)
    before = {name: tensor.clone() for name, tensor in life.base().items()}
    # Whatever it says: what counts is that nothing is lost.
    with suppress(Exception):
        life.unmerge()
    assert_all_identical(life.base(), before, what="the base, unmerged before any merge", like="as before")
    _assert_gives(life.model, case, wanted, "the output, unmerged before any merge,")


@claim(trained_cases, stage="merge", needs=("merge", "scale"), subject=ANY, share=0.2)
def test_a_merge_keeps_the_multiplier(case: LibraryCase) -> None:
    """Merged at multiplier 0.5, it gives what it gave at that."""
    life = begin(case)
    life.scale(0.5)
    wanted = own_output(life.model, case.x())
    life.merge()
    _assert_gives(life.model, case, wanted, "the output, merged at multiplier 0.5,")


@claim(trained_cases, stage="merge", needs=("together", "merge"), subject=ANY, share=0.2)
def test_two_adapters_merged_give_what_they_gave(case: LibraryCase) -> None:
    """Both active, in either order; or refused."""
    for order in ((0, 1), (1, 0)):
        life = begin(case)
        life.add_second()
        life.switch(1)
        move(life.trainable(), case.seed + 1)
        life.switch(*order)
        wanted = own_output(life.model, case.x())
        life.merge()
        _assert_gives(life.model, case, wanted, f"the output of adapters {order}, merged,")


@claim(trained_cases, stage="merge", needs=("merge",), subject=ANY, share=0.2)
def test_merging_twice_changes_nothing_more(case: LibraryCase) -> None:
    """The second time is refused or harmless."""
    life, wanted = _begun(case)
    life.merge()
    try:
        life.merge()
    except RefusedError:
        return
    _assert_gives(life.model, case, wanted, "the output, merged twice")


@claim(trained_cases, stage="merge", needs=("merge",), subject=ANY, share=0.1)
def test_a_merged_adapter_can_be_copied(case: LibraryCase) -> None:
    """copy.deepcopy of the model: the same output, bit for bit."""
    life, x = begin(case), case.x()
    life.merge()
    own = output(life.model, x)
    with assert_runs("copy.deepcopy of the merged model"):
        other = copy.deepcopy(life.model)
    assert_identical(output(other, x), own, what="the output of a copy", like="the merged model's")


@claim(trained_cases, stage="merge", needs=("merge",), subject=ANY)
def test_a_failed_merge_leaves_the_adapter_as_it_was(case: LibraryCase) -> None:
    """Where merge raises: the base bit for bit, and the function."""
    life = begin(case)
    before = {name: tensor.clone() for name, tensor in life.base().items()}
    own = output(life.model, case.x())
    try:
        life.merge()
    except Exception as error:
        what = f"the base after merge raised {type(error).__name__}"
        assert_all_identical(life.base(), before, what=what, like="as before")
        what = f"the output after merge raised {type(error).__name__}"
        assert_identical(output(life.model, case.x()), own, what=what, like="as before")


@claim(trained_cases, stage="detach", needs=("detach",), subject=ANY, share=0.2)
def test_detach_gives_the_base_back(case: LibraryCase) -> None:
    """The same tensors under the same names, bit for bit."""
    before = {name: tensor.clone() for name, tensor in plain(case.build()).items()}
    left = begin(case).detach()
    assert_all_identical(plain(left), before, what="the base after detach", like="as before")


@claim(trained_cases, stage="detach", needs=("merge", "detach"), subject=ANY, share=0.2)
def test_detach_of_a_merged_adapter_leaves_base_or_function(case: LibraryCase) -> None:
    """Not something between: the output is the base's or the adapter's."""
    life, wanted = _begun(case)
    base = own_output(case.build(), case.x())
    life.merge()
    left = life.detach()
    got, error = output(left, case.x()).double(), own_output(left, case.x()).error
    is_base = bool(((got - base.value).abs() <= base.error + wanted.error + error).all())
    if not is_base:
        _assert_gives(left, case, wanted, "the output after detach of a merged adapter")
