"""Files, copies and casts keep the function."""

import copy
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from properties.judging.assertions import (
    Violation,
    assert_all_identical,
    assert_holds,
    assert_identical,
    assert_runs,
    assert_within,
)
from properties.judging.claim import ANY, claim
from properties.judging.own_bound import own_output
from properties.judging.tolerance import claim_bound
from properties.subjects.library import LibraryCase, Life
from properties.subjects.living import (
    begin,
    library,
    library_cases,
    loaded_elsewhere,
    move,
    output,
    trained_cases,
)
from properties.subjects.pair import NoAnswerError, asked
from strategies import gaussian

halves = partial(trained_cases, dtypes=("float32", "bfloat16"))
exact = partial(trained_cases, dtypes=("float64", "float32"), tokens=((3,),))


def _asked(case: LibraryCase, folder: str) -> list[dict[str, Any]]:
    """What two fresh processes tell. A machine may be busy once; the second time it is a load without end."""
    with suppress(NoAnswerError):
        return asked(loaded_elsewhere, case, folder)
    try:
        return asked(loaded_elsewhere, case, folder)
    except NoAnswerError as error:
        raise Violation(f"a fresh process loads it without end: {error}") from error


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


@claim(trained_cases, stage="load", needs=("save",), subject=ANY, share=0.1, slow=True)
def test_a_fresh_process_loads_what_was_saved(case: LibraryCase) -> None:
    """Two of them, which have nothing but the files: the output to rounding."""
    life, x = begin(case), case.x()
    wanted = own_output(life.model, x)
    with tempfile.TemporaryDirectory() as folder:
        life.save(Path(folder))
        answers = _asked(case, folder)
    for answer in answers:
        if "error" in answer:
            raise Violation(f"a fresh process cannot load it:\n{answer['error']}")
        got = torch.tensor(answer["y"], dtype=torch.float64).view_as(wanted.value).to(case.dtype)
        what = "the output of what a fresh process loaded"
        assert_within(got, wanted.value, 2 * wanted.error, what=what, like="what was saved")


@claim(library_cases, stage="load", needs=("save", "settings"), subject=ANY, share=0.2)
def test_settings_come_back(case: LibraryCase) -> None:
    """Rank, alpha and options: those that were given, and those that the loaded adapter has."""
    life = begin(case)
    given, own = dict(case.settings), life.settings()
    for name, value in own.items():
        found = f"{name}={given[name]!r} was given, and the adapter has {value!r}"
        assert_holds(_same(value, given[name]), claim=found)
    with _loaded(case, life) as loaded:
        for name, value in loaded.settings().items():
            found = f"{name} is {own[name]!r}, and {value!r} once it is loaded"
            assert_holds(_same(value, own[name]), claim=found)


def _same(one: Any, other: Any) -> bool:
    """A member of an enumeration is its value, and a tuple in a file is a list."""
    plain = [getattr(value, "value", value) for value in (one, other)]
    listed = [list(value) if isinstance(value, tuple) else value for value in plain]
    return bool(listed[0] == listed[1])


@claim(exact, stage="load", needs=("save",), subject=ANY, share=0.2)
def test_a_loaded_adapter_trains_on(case: LibraryCase) -> None:
    """The same tensors learn, from the same gradients, to rounding."""
    life = begin(case)
    wanted = _gradients(life, case)
    with _loaded(case, life) as loaded:
        loaded.ready()
        got = _gradients(loaded, case)
    assert_holds(got.keys() == wanted.keys(), claim=f"loaded, {sorted(got)} learn, wanted {sorted(wanted)}")
    for name, gradient in wanted.items():
        error = claim_bound(gradient.abs().max() if gradient.numel() else 0.0, case.dtype)
        what = f"the gradient of {name}, loaded,"
        assert_within(got[name], gradient, error, what=what, like="that of what was saved")


def _gradients(life: Life, case: LibraryCase) -> dict[str, Tensor]:
    got = life.model(case.x())
    if got.requires_grad:
        torch.autograd.backward(got, gaussian(case.seed, "upstream", tuple(got.shape), got.dtype))
    return {name: p.grad for name, p in life.trainable().items() if p.grad is not None}


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


@claim(trained_cases, stage="save", subject=ANY, share=0.1)
def test_a_pickled_state_keeps_every_bit(case: LibraryCase) -> None:
    """torch.save of the state dict, and torch.load of it as weights only."""
    state, file = begin(case).model.state_dict(), io.BytesIO()
    with assert_runs("torch.save and torch.load(weights_only=True) of the state dict"):
        torch.save(state, file)
        file.seek(0)
        got = torch.load(file, weights_only=True)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    assert_all_identical(got, tensors, what="a pickled state", like="the model's")


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
