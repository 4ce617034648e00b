"""What attach leaves: an adapter that changes nothing yet, and a base that is what it was."""

import re
from dataclasses import replace
from functools import partial
from itertools import combinations

import torch

from properties.judging.assertions import (
    Violation,
    assert_all_identical,
    assert_holds,
    assert_identical,
    assert_within,
)
from properties.judging.claim import ANY, claim
from properties.judging.own_bound import own_output
from properties.judging.tolerance import rounding
from properties.subjects.library import LibraryCase, RefusedError, plain
from properties.subjects.living import begin, library, library_cases, move, output


@claim(library_cases, stage="refusal", subject=ANY, share=0.5)
def test_attach_works_or_is_refused_clearly(case: LibraryCase) -> None:
    """What a library does not take, it says; and the first call works where attach did."""
    try:
        life = begin(case)
    except RefusedError as error:
        assert_holds(error.clear, claim=f"attach ran into {error}, wanted an adapter or a refusal")
        raise
    try:
        output(life.model, case.x())
    except Exception as error:
        raise Violation(f"attached, and the first call fails: {type(error).__name__}: {error}") from error


@claim(library_cases, stage="attach", subject=ANY, share=0.2)
def test_a_refused_attach_leaves_the_base_as_it_was(case: LibraryCase) -> None:
    """The same tensors under the same names, bit for bit."""
    model = case.build()
    before = {name: tensor.clone() for name, tensor in plain(model).items()}
    try:
        library(case.library).attach(model, case)
    except Exception as error:
        assert_all_identical(
            plain(model),
            before,
            what=f"the base after attach raised {type(error).__name__}",
            like="as before",
        )


@claim(library_cases, stage="attach", subject=ANY, share=0.2)
def test_the_base_keeps_every_bit(case: LibraryCase) -> None:
    """After attach, a call forth and back, and a step of training."""
    before = {name: tensor.clone() for name, tensor in plain(case.build()).items()}
    life = begin(case)
    assert_all_identical(life.base(), before, what="the base after attach", like="as before")
    if (got := life.model(case.x())).requires_grad:
        got.sum().backward()
    move(life.trainable(), case.seed)
    assert_all_identical(life.base(), before, what="the base after a step", like="as before")


@claim(library_cases, stage="init", subject=ANY, share=0.2)
def test_a_fresh_adapter_gives_the_base_output(case: LibraryCase) -> None:
    """To rounding, unless its documentation says otherwise of these settings."""
    life = begin(case)
    if not library(case.library).identity(case):
        return
    wanted = output(case.build(), case.x()).double()
    error = own_output(life.model, case.x()).error + rounding(wanted, case.dtype)
    got = output(life.model, case.x())
    assert_within(got, wanted, error, what="the output of a fresh adapter", like="the base's")


@claim(library_cases, stage="init", subject=ANY, share=0.2)
def test_the_same_seed_gives_the_same_adapter(case: LibraryCase) -> None:
    """Every trainable tensor and the output, bit for bit."""
    first, again = begin(case), begin(case)
    tensors = [{n: p.detach() for n, p in life.trainable().items()} for life in (first, again)]
    assert_all_identical(tensors[1], tensors[0], what="an adapter attached again", like="the first")
    outputs = [output(life.model, case.x()) for life in (first, again)]
    assert_identical(
        outputs[1], outputs[0], what="the output of an adapter attached again", like="the first's"
    )


@claim(
    partial(library_cases, dtypes=("float32",), weights=("gaussian",), depths=(2,)),
    stage="init",
    subject=ANY,
    share=0.1,
)
def test_what_is_random_is_drawn_for_each_layer_and_entry(case: LibraryCase) -> None:
    """Of tensors that another seed fills otherwise: two layers differ, and half of the entries at least."""
    square = replace(case, linear=replace(case.linear, d_in=case.linear.d_out))
    first, other = (begin(one).trainable() for one in (square, replace(square, seed=case.seed + 1)))
    random = {n: t.detach() for n, t in first.items() if t.numel() > 1 and not torch.equal(t, other[n])}
    for name, tensor in random.items():
        distinct = len(torch.unique(tensor))
        found = f"{name} starts with {distinct} different numbers in {tensor.numel()} entries"
        assert_holds(2 * distinct >= tensor.numel(), claim=found)
    for (name, one), (twin, another) in combinations(random.items(), 2):
        alike = re.sub(r"\d+", "#", name) == re.sub(r"\d+", "#", twin) and one.shape == another.shape
        same = alike and torch.equal(one, another)
        assert_holds(not same, claim=f"{name} and {twin} are drawn alike, of two layers")


@claim(library_cases, stage="init", subject=ANY, share=0.2)
def test_the_base_does_not_train(case: LibraryCase) -> None:
    """What requires a gradient is none of the base's tensors, and there is something that does."""
    life = begin(case)
    parameters = life.trainable().values()
    base = {tensor.data_ptr() for tensor in life.base().values()}
    shared = [tuple(p.shape) for p in parameters if p.data_ptr() in base and p.numel()]
    assert_holds(not shared, claim=f"tensors of the base train, of shape {shared}")
    count = sum(torch.numel(p) for p in parameters)
    assert_holds(count > 0, claim="no tensor of the adapter requires a gradient")
