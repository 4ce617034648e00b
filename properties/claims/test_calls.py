"""The ways in which a model is called: by position and keyword, with batches of any shape, in either mode,
functionally.
"""

import copy
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from properties.judging.assertions import (
    assert_close,
    assert_holds,
    assert_identical,
    assert_nonzero,
    assert_runs,
    assert_within,
    claim_is_about,
)
from properties.judging.claim import claim
from properties.judging.expected import expected_output
from properties.judging.fixed_models import Stack, adapt_and_move, x
from properties.judging.own_bound import own_output, own_results
from properties.judging.own_formula import its_formula
from properties.judging.tolerance import finite
from properties.subjects.attaching import attach
from properties.subjects.layer_runs import default_run, run_layers
from strategies import AdaptedModel, gaussian, trained_models
from strategies.layouts import Laid, laid_layers
from strategies.models import trained_nested


@claim(trained_models, stage="forward", needs=("transformers",), share=0.3)
def test_train_and_eval_mode_give_the_same_output(case: AdaptedModel) -> None:
    """And so do recorded and unrecorded passes: no variant here has dropout."""
    model, run = attach(case).model, default_run(case)
    wanted, like = run(model.train()), "that in train mode"
    assert_identical(run(model.eval()), wanted, what="the output in eval mode", like=like)
    for unrecorded in (torch.no_grad, torch.inference_mode):
        with unrecorded():
            what = f"the output under torch.{unrecorded.__name__}"
            assert_identical(run(model), wanted.detach(), what=what, like=like)


@claim(st.just, stage="forward")
def test_keyword_calls_reach_the_adapter(variant: str) -> None:
    """layer(input=x) is layer(x)."""
    model = adapt_and_move(Stack(), variant)
    for name in ("first", "second", "third"):
        layer: Any = model.get_submodule(name)
        wanted = layer(x(3)).detach()
        plain = torch.nn.functional.linear(x(3), layer.weight, layer.bias)
        assert_nonzero(wanted - plain, what=f"what the moved adapter adds to the output of {name}")
        what = f"the output of {name}, called with input=x,"
        assert_identical(layer(input=x(3)), wanted, what=what, like=f"that of {name}(x)")


class Named(nn.Module):
    """A linear layer that calls its input x, takes a second argument, and has no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features = self.out_features = 4
        self.weight = nn.Parameter(gaussian(0, "weight", (4, 4)))

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        return x @ self.weight.mT * gain


@claim(st.just, stage="forward")
def test_a_layer_that_calls_its_input_x_is_adapted(variant: str) -> None:
    """By position and by keyword, beside another argument; such a layer need not have a bias."""
    layer: Any = Named()
    plain = layer(x(3), 2.0).detach()
    adapt_and_move(nn.Sequential(layer), variant)
    wanted = layer(x(3), 2.0).detach()
    assert_nonzero(wanted - plain, what="what the moved adapter adds to layer(x, 2.0)")
    for given in ({"x": x(3), "gain": 2.0}, {"gain": 2.0, "x": x(3)}):
        called = f"layer({', '.join(f'{name}=…' for name in given)})"
        with assert_runs(called):
            got = layer(**given)
        assert_identical(got, wanted, what=f"the output of {called}", like="that of layer(x, 2.0)")


@claim(st.just, stage="forward")
def test_batches_of_any_shape_are_taken_row_by_row(variant: str) -> None:
    """Empty, none, one, four and two equal leading dimensions; the same numbers as in one flat batch."""
    model = nn.Sequential(Stack().first)
    layer = adapt_and_move(model, variant, dtype=torch.float64).double()
    for leading in ((), (1,), (3, 3), (2, 1, 3), (1, 2, 2, 2), (0,), (2, 0)):
        given = x(*leading).double()
        rows = layer(given.reshape(-1, 4)).detach()
        got = layer(given).detach()
        found = f"an input of shape {tuple(given.shape)} gives an output of shape {tuple(got.shape)}"
        assert_holds(got.shape == given.shape, claim=found)
        # One kernel or another, a float64 rounding apart.
        bound = 2 * own_output(layer, given).error.reshape(rows.shape) if rows.numel() else 0.0
        what = f"the output for an input of shape {tuple(given.shape)}"
        assert_within(got.reshape(-1, 4), rows, bound, what=what, like="what its rows give")


@claim(laid_layers, stage="forward", share=0.5)
def test_a_batch_of_any_shape_and_layout_is_taken_row_by_row(case: Laid) -> None:
    """Whatever its strides, the output is the oracle's at those numbers and has the input's leading
    dimensions.
    """
    made = attach(case.layer)
    (layer,) = run_layers(made, lambda model: model(case.x().contiguous()))
    got = made.model(case.x())
    found = (
        f"a {case.layout} input of shape {tuple(case.x().shape)} gives an output of shape {tuple(got.shape)}"
    )
    assert_holds(got.shape[:-1] == case.layer.tokens, claim=found)
    what = f"the output for {case.layout} input"
    assert_close(got, expected_output(layer), what=what, like=its_formula(case.layer.variant))


@claim(trained_nested, stage="engine", share=0.3, capability="functional_call")
def test_a_functional_call_uses_the_parameters_that_it_is_given(case: AdaptedModel) -> None:
    """Its output and gradients are those of a model that holds them; the model's own stay as they are."""
    model, x = attach(case).model, case.batch()["x"]
    given = {name: p.detach() * 0.75 for name, p in model.named_parameters() if p.requires_grad}
    holder = copy.deepcopy(model)
    holder.load_state_dict({**model.state_dict(), **given})
    own = model(x).detach()
    # In float16 what is in between may overflow, in one order of computing or another.
    claim_is_about(finite(learnt_from(copy.deepcopy(holder), x).values()))
    # Neither where a tensor lies nor by which kernel a gradient is taken is the same: rounding is not.
    wanted = own_results(holder, x, learnt_from)
    like = "that of a model that holds the parameters"
    got = functional_call(model, given, (x,))
    assert_close(got, wanted["output"], what="the output of a functional call", like=like)
    for name, gradient in grad(lambda held: functional_call(model, held, (x,)).square().sum())(given).items():
        assert_close(gradient, wanted[name], what=f"the gradient of {name} in a functional call", like=like)
    assert_identical(model(x), own, what="the model's own output after a functional call", like="as before")


def learnt_from(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Its output, and the gradient of the sum of squares of that."""
    model.zero_grad()
    y = model(x)
    torch.autograd.backward(y.square().sum())
    live = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return {"output": y, **{n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in live}}


@claim(st.just, stage="engine")
def test_vmap_gives_each_row_its_own_output(variant: str) -> None:
    """A batch mapped row by row is the batch."""
    model = adapt_and_move(Stack().double(), variant, dtype=torch.float64)
    rows = x(5).double()
    wanted = model(rows).detach()
    bound = 2 * own_output(model, rows).error
    assert_within(vmap(model)(rows), wanted, bound, what="the output under vmap", like="that of the batch")
