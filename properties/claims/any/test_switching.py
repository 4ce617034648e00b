"""Off and on, weaker and stronger, one adapter beside another."""

from dataclasses import replace
from functools import partial

from torch import Tensor

from properties.judging.assertions import (
    assert_all_identical,
    assert_holds,
    assert_identical,
    assert_runs,
    assert_within,
)
from properties.judging.claim import ANY, claim
from properties.judging.own_bound import own_output
from properties.judging.settings_seen import simplest
from properties.judging.tolerance import claim_bound
from properties.subjects.library import LibraryCase, Life, Settings
from properties.subjects.living import begin, library, method_of, move, output, trained_cases

# A base output off by more than rounding is off in any dtype.
half = partial(trained_cases, dtypes=("float32",))
exact = partial(trained_cases, dtypes=("float64", "float32"), weights=("gaussian",), tokens=((3,),))


def _tensors(life: Life) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in life.trainable().items()}


@claim(trained_cases, stage="detach", needs=("disable",), subject=ANY, share=0.2)
def test_a_disabled_adapter_gives_the_base_output(case: LibraryCase) -> None:
    """To rounding; and afterwards its own, bit for bit."""
    life, x = begin(case), case.x()
    own, base = output(life.model, x), own_output(case.build(), x)
    with life.disabled():
        off = output(life.model, x)
    assert_within(off, base.value, base.error, what="the output while disabled", like="the base's")
    assert_identical(output(life.model, x), own, what="the output when enabled again", like="as before")


@claim(trained_cases, stage="detach", needs=("merge", "disable"), subject=ANY, share=0.2)
def test_a_merged_adapter_can_be_disabled(case: LibraryCase) -> None:
    """The base's output while disabled, and the adapter's afterwards, to the roundings of the merge."""
    life, x = begin(case), case.x()
    wanted, base = own_output(life.model, x), own_output(case.build(), x)
    life.merge()
    error = own_output(life.model, x).error + wanted.error + base.error
    with life.disabled():
        off = output(life.model, x)
    assert_within(off, base.value, error, what="the output, merged and disabled", like="the base's")
    got = output(life.model, x)
    assert_within(got, wanted.value, error, what="the output, merged, disabled and enabled", like="as before")


@claim(half, stage="forward", needs=("scale",), subject=ANY, share=0.2)
def test_a_multiplier_scales_what_is_added(case: LibraryCase) -> None:
    """At 0 the base's output, at 1 its own again."""
    life, x = begin(case), case.x()
    wanted, base = own_output(life.model, x), own_output(case.build(), x)
    for factor, like, target in ((0.0, "the base's", base), (1.0, "as before", wanted)):
        life.scale(factor)
        got = output(life.model, x)
        error = wanted.error + base.error
        assert_within(got, target.value, error, what=f"the output at multiplier {factor}", like=like)


@claim(exact, stage="forward", needs=("scale",), subject=ANY, share=0.2)
def test_a_multiplier_is_continuous(case: LibraryCase) -> None:
    """From 0, from 0.5 and from 1, of a change a hundred times smaller at most a tenth is seen."""
    life, x = begin(case), case.x()
    for start in (0.0, 0.5, 1.0):
        outputs = []
        for step in (0.0, 1e-4, 1e-6):
            life.scale(start + step)
            outputs.append(output(life.model, x))
        large, small = (float((other - outputs[0]).norm() / outputs[0].norm()) for other in outputs[1:])
        found = f"from {start} a multiplier larger by 1e-6 changes the output by {small:.3g} of it, by 1e-4"
        rounding = float(claim_bound(1.0, case.dtype))
        assert_holds(small <= max(large / 10, rounding), claim=f"{found} by {large:.3g}")


@claim(half, stage="attach", needs=("second",), subject=ANY, share=0.2)
def test_a_second_adapter_leaves_the_first_alone(case: LibraryCase) -> None:
    """The first still acts, with the same tensors, and they still train."""
    life, x = begin(case), case.x()
    own, tensors = output(life.model, x), _tensors(life)
    life.add_second()
    what = "the output with a second adapter beside it"
    assert_identical(output(life.model, x), own, what=what, like="as before")
    assert_all_identical(_tensors(life), tensors, what="what trains with a second adapter", like="as before")


@claim(half, stage="attach", needs=("second",), subject=ANY, share=0.2)
def test_switching_back_gives_the_first_back(case: LibraryCase) -> None:
    """After the second was trained: the first's output and tensors, bit for bit."""
    life, x = begin(case), case.x()
    own, tensors = output(life.model, x), _tensors(life)
    life.add_second()
    life.switch(1)
    if library(case.library).identity(case):
        base = own_output(case.build(), x)
        error = base.error + own_output(life.model, x).error
        got = output(life.model, x)
        assert_within(got, base.value, error, what="the output of a fresh second adapter", like="the base's")
    shared = [n for n, p in life.trainable().items() if n in tensors and p.numel()]
    assert_holds(not shared, claim=f"the second adapter trains tensors of the first: {shared[:3]}")
    move(life.trainable(), case.seed + 1)
    life.switch(0)
    assert_all_identical(_tensors(life), tensors, what="what trains after switching back", like="the first's")
    assert_identical(output(life.model, x), own, what="the output after switching back", like="the first's")


@claim(half, stage="attach", needs=("second",), subject=ANY, share=0.2)
def test_a_second_adapter_of_other_settings_is_its_own_or_refused(case: LibraryCase) -> None:
    """It trains what it trains alone, it can be called, and the first comes back."""
    life, x = begin(case), case.x()
    own, other = output(life.model, x), _other_settings(case)
    alone = begin(replace(case, settings=other, trained=False))
    life.add_second(other)
    life.switch(1)
    given, found, wanted = f"a second adapter with {dict(other)}", _shapes(life), _shapes(alone)
    assert_holds(found == wanted, claim=f"{given} trains shapes {found}, and alone {wanted}")
    with assert_runs(f"the first call of {given}"):
        output(life.model, x)
    life.switch(0)
    assert_identical(output(life.model, x), own, what="the output after switching back", like="the first's")


def _shapes(life: Life) -> list[tuple[int, ...]]:
    return sorted(tuple(parameter.shape) for parameter in life.trainable().values())


def _other_settings(case: LibraryCase) -> Settings:
    """One number at another value, or, of a switch, what the method has without it; the seed says which."""
    given, numbers = dict(case.settings), method_of(case.method).numbers
    found = [{**given, n: v} for n, values in numbers.items() for v in values if given.get(n) != v]
    found += [dict(simplest(plain))] if (plain := case.method.partition("+")[0]) != case.method else []
    return tuple(found[case.seed % len(found)].items()) if found else case.settings


@claim(half, stage="forward", needs=("together",), subject=ANY, share=0.2)
def test_a_fresh_second_adapter_adds_nothing(case: LibraryCase) -> None:
    """Active together with the first, or refused."""
    life, x = begin(case), case.x()
    if not library(case.library).identity(case):
        return
    wanted = own_output(life.model, x)
    life.add_second()
    life.switch(0, 1)
    error = wanted.error + own_output(life.model, x).error
    what = "the output with a fresh second adapter active too"
    assert_within(output(life.model, x), wanted.value, error, what=what, like="the first's alone")


@claim(half, stage="merge", needs=("second", "merge"), subject=ANY, share=0.2)
def test_merging_beside_a_second_adapter_folds_the_active_one(case: LibraryCase) -> None:
    """The second is trained and not active."""
    life, x = begin(case), case.x()
    wanted = own_output(life.model, x)
    life.add_second()
    life.switch(1)
    move(life.trainable(), case.seed + 1)
    life.switch(0)
    life.merge()
    error = wanted.error + own_output(life.model, x).error
    got = output(life.model, x)
    assert_within(got, wanted.value, error, what="the output, merged beside a second", like="the first's")
