"""What an adapted layer gives: finite, affine, in its own dtype, row by row, and the same in training."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from properties.judging.assertions import assert_finite, assert_holds, assert_identical, assert_within
from properties.judging.claim import ANY, claim
from properties.judging.own_bound import own_output
from properties.subjects.library import LibraryCase, Life
from properties.subjects.living import any_tokens, begin, method_of, move, output, trained_cases

extreme: dict[str, Any] = {
    "weights": ("zero_rows", "zero_columns", "tiny", "huge", "low_rank"),
    "dtypes": ("float32", "float64"),
}
three_rows = partial(trained_cases, tokens=((3,),))


@claim(
    partial(trained_cases, dtypes=("float64", "float32", "bfloat16")), stage="forward", subject=ANY, share=0.2
)
def test_the_output_is_as_exact_as_its_dtype(case: LibraryCase) -> None:
    """It has the base's dtype, and is that of the same layer in float64 to rounding."""
    life, x = begin(case), case.x()
    got = output(life.model, x)
    assert_holds(got.dtype == x.dtype, claim=f"{x.dtype} in, {got.dtype} out")
    wanted = own_output(life.model, x)
    assert_within(got, wanted.value, wanted.error, what="the output", like="the same layer's in float64")


@claim(partial(trained_cases, dtypes=("float64",)), stage="forward", subject=ANY, share=0.2)
def test_a_float64_model_keeps_its_digits(case: LibraryCase) -> None:
    """f(t + d) − f(t) = f(t) − f(t − d) for a step of 1e-9 of what is trained, to float64's rounding."""
    life, x = begin(case), case.x()
    wanted = own_output(life.model, x)
    ahead, here, behind = (_moved(life, x, case.seed, step) for step in (1e-9, 0.0, -1e-9))
    what = "the output's change by a step of 1e-9"
    assert_within(ahead - here, here - behind, 4 * wanted.error, what=what, like="that of one back")


def _moved(life: Life, x: Tensor, seed: int, step: float) -> Tensor:
    """The output with everything that trains off by about `step`."""
    own = {name: p.detach().clone() for name, p in life.trainable().items()}
    move(life.trainable(), seed, step)
    moved = output(life.model, x)
    with torch.no_grad():
        for name, parameter in life.trainable().items():
            parameter.copy_(own[name])
    return moved


@claim(three_rows, stage="forward", subject=ANY, share=0.2)
def test_the_output_is_affine_in_the_input(case: LibraryCase) -> None:
    """f(x₁ + x₂) + f(0) = f(x₁) + f(x₂)."""
    if not method_of(case.method).linear:
        return
    life = begin(case)
    first, second = case.x("first"), case.x("second")
    points = (first + second, torch.zeros_like(first), first, second)
    both, nothing, one, other = (output(life.model, x).double() for x in points)
    error = own_output(life.model, torch.cat(points)).error.view(4, *both.shape).sum(0)
    what = "f(x₁ + x₂) + f(0)"
    assert_within(both + nothing, one + other, error, what=what, like="f(x₁) + f(x₂)", dtype=case.dtype)


@claim(partial(trained_cases, **any_tokens), stage="forward", subject=ANY, share=0.2)
def test_a_row_depends_on_itself_alone(case: LibraryCase) -> None:
    """Any batch gives what each of its rows gives alone: one vector, none, several dimensions."""
    life, x = begin(case), case.x()
    got = output(life.model, x)
    width = case.linear.d_out
    wanted_shape = (*x.shape[:-1], width)
    assert_holds(got.shape == wanted_shape, claim=f"{tuple(x.shape)} in, {tuple(got.shape)} out")
    rows = x.reshape(-1, x.shape[-1])
    if len(rows):
        alone = torch.cat([output(life.model, row[None]) for row in rows])
        error = 2 * own_output(life.model, rows).error
        what = f"the output of a batch of shape {tuple(x.shape)}"
        assert_within(got.reshape(-1, width), alone, error, what=what, like="that of its rows alone")


@claim(three_rows, stage="forward", subject=ANY, share=0.2)
def test_the_layout_of_the_input_does_not_matter(case: LibraryCase) -> None:
    """Transposed, strided and expanded inputs give what a contiguous copy gives."""
    life, x = begin(case), case.x()
    layouts = {
        "transposed": x.mT.contiguous().mT,
        "strided": torch.stack([x, x], -1)[..., 0],
        "expanded": x[:1].expand_as(x),
    }
    errors = 2 * own_output(life.model, torch.cat([*layouts.values()])).error
    for (name, given), error in zip(layouts.items(), errors.chunk(len(layouts)), strict=True):
        wanted, what = output(life.model, given.contiguous().clone()), f"the output of a {name} input"
        assert_within(output(life.model, given), wanted, error, what=what, like="a contiguous copy's")


@claim(trained_cases, stage="forward", subject=ANY, share=0.1)
def test_a_second_call_gives_the_same(case: LibraryCase) -> None:
    """In eval mode, bit for bit, and so does the eighth."""
    life, x = begin(case), case.x()
    first = output(life.model, x)
    for _ in range(7):
        assert_identical(output(life.model, x), first, what="the output of a later call", like="the first's")


@claim(trained_cases, stage="training", needs=("steady",), subject=ANY, share=0.2)
def test_train_and_eval_agree(case: LibraryCase) -> None:
    """Where nothing is dropped out."""
    life, x = begin(case), case.x()
    error = 2 * own_output(life.model, x).error
    wanted = output(life.model.eval(), x)
    got = output(life.model.train(), x)
    assert_within(got, wanted, error, what="the output in train mode", like="that in eval mode")


@claim(partial(trained_cases, **extreme), stage="forward", subject=ANY, share=0.2)
def test_outputs_and_gradients_are_finite(case: LibraryCase) -> None:
    """Zero rows and columns, huge and tiny weights, trained."""
    _assert_finite(case)


@claim(partial(trained_cases, **extreme), stage="init", subject=ANY, share=0.2)
def test_a_fresh_adapter_is_finite(case: LibraryCase) -> None:
    """The same before any training."""
    _assert_finite(replace(case, trained=False))


def _assert_finite(case: LibraryCase) -> None:
    life, x = begin(case), case.x().requires_grad_()
    got = life.model(x)
    assert_finite(got, what="the output")
    got.sum().backward()
    gradients = {"the input": x.grad, **{n: p.grad for n, p in life.trainable().items()}}
    for name, gradient in gradients.items():
        if gradient is not None:
            assert_finite(gradient, what=f"the gradient of {name}")
