"""Files, copies and casts keep the function."""

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from properties.judging.assertions import (
    assert_holds,
    assert_identical,
    assert_runs,
    assert_within,
)
from properties.judging.claim import ANY, claim
from properties.judging.own_bound import own_output
from properties.subjects.library import LibraryCase, Life
from properties.subjects.living import begin, library, library_cases, move, output, trained_cases

halves = partial(trained_cases, dtypes=("float32", "bfloat16"))


@contextmanager
def _loaded(case: LibraryCase, life: Life, *, seed: int = 1) -> Iterator[Life]:
    """What is saved of it, on a fresh base, in a process whose generator stands elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        life.save(Path(folder))
        torch.default_generator.manual_seed(case.seed + seed)
        yield library(case.library).load(case.build(), Path(folder), case)


@claim(trained_cases, stage="load", needs=("save",), subject=ANY, share=0.2)
def test_a_loaded_adapter_gives_what_was_saved(case: LibraryCase) -> None:
    """The output to rounding, and bit for bit every tensor that has the same name in both."""
    _check_loaded(case)


@claim(library_cases, stage="load", needs=("save",), subject=ANY, share=0.2)
def test_a_loaded_fresh_adapter_gives_what_was_saved(case: LibraryCase) -> None:
    """The same of one that has not trained yet."""
    _check_loaded(case)


def _check_loaded(case: LibraryCase) -> None:
    life, x = begin(case), case.x()
    wanted = own_output(life.model, x)
    tensors = {name: p.detach() for name, p in life.trainable().items()}
    with _loaded(case, life) as loaded:
        loaded.ready()
        error = wanted.error + own_output(loaded.model, x).error
        got = output(loaded.model, x)
        assert_within(got, wanted.value, error, what="the output of what was loaded", like="what was saved")
        for name, tensor in loaded.trainable().items():
            if name in tensors:
                assert_identical(tensor, tensors[name], what=f"{name}, loaded,", like="what was saved")


@claim(trained_cases, stage="save", needs=("save", "merge"), subject=ANY, share=0.2)
def test_an_adapter_saved_while_merged_is_the_same(case: LibraryCase) -> None:
    """Or saving is refused."""
    life, x = begin(case), case.x()
    wanted = own_output(life.model, x)
    life.merge()
    with _loaded(case, life) as loaded:
        loaded.ready()
        error = wanted.error + own_output(loaded.model, x).error
        got = output(loaded.model, x)
        assert_within(got, wanted.value, error, what="the output of one saved merged", like="the adapter's")


@claim(trained_cases, stage="save", subject=ANY, share=0.2)
def test_a_state_dict_carries_the_adapter(case: LibraryCase) -> None:
    """Into an adapter on the same base that another seed initialised."""
    life, x = begin(case), case.x()
    wanted = own_output(life.model, x)
    other = _on_the_same_base(case)
    state = {name: tensor.clone() for name, tensor in life.model.state_dict().items()}
    other.model.load_state_dict(state)
    error = wanted.error + own_output(other.model, x).error
    got = output(other.model, x)
    assert_within(got, wanted.value, error, what="the output with its state dict", like="the first's")


def _on_the_same_base(case: LibraryCase) -> Life:
    model = case.build()
    torch.default_generator.manual_seed(case.seed + 1)
    life = library(case.library).attach(model, case)
    life.ready()
    return life


@claim(trained_cases, stage="attach", subject=ANY, share=0.2)
def test_a_deep_copy_is_the_same_and_apart(case: LibraryCase) -> None:
    """The same output, bit for bit, which training the first does not change."""
    life, x = begin(case), case.x()
    own = output(life.model, x)
    with assert_runs("copy.deepcopy of the adapted model"):
        other = copy.deepcopy(life.model)
    assert_identical(output(other, x), own, what="the output of a deep copy", like="the first's")
    move(life.trainable(), case.seed + 1)
    assert_identical(output(other, x), own, what="a deep copy's output after training", like="as before")


@claim(halves, stage="forward", subject=ANY, share=0.2)
def test_a_cast_to_float64_works(case: LibraryCase) -> None:
    """`.double()` of the adapted model: all of it is float64, and gives what it gave, to rounding."""
    life, x = begin(case), case.x()
    own = output(life.model, x)
    with assert_runs("a call after .double()"):
        got = output(life.model.double(), x.double())
    assert_holds(got.dtype == torch.float64, claim=f"after .double() it gives {got.dtype}")
    error = own_output(begin(case).model, x).error
    assert_within(own, got, error, what="the output", like="that after .double()")


@claim(partial(trained_cases, dtypes=("float32",)), stage="forward", subject=ANY, share=0.2)
def test_a_cast_to_bfloat16_works(case: LibraryCase) -> None:
    """`.bfloat16()` of the adapted model gives what its own rounded tensors give, in bfloat16."""
    life, x = begin(case), case.x().bfloat16()
    output(life.model, case.x())
    with assert_runs("a call after .bfloat16()"):
        got = output(life.model.bfloat16(), x)
    assert_holds(got.dtype == torch.bfloat16, claim=f"after .bfloat16() it gives {got.dtype}")
    wanted = own_output(life.model, x)
    what, like = "the output after .bfloat16()", "that of its rounded tensors"
    assert_within(got, wanted.value, wanted.error, what=what, like=like)
