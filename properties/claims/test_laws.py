"""Laws of one method: they hold whatever the parameters, and see what a comparison with the oracle is too
coarse or too narrow to see.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.agreement import assert_agrees
from properties.judging.assertions import (
    assert_close,
    assert_equal,
    assert_finite,
    assert_holds,
    assert_within,
    assert_zero,
)
from properties.judging.claim import claim
from properties.judging.expected import expected_output
from properties.judging.tolerance import (
    Bounded,
    claim_bound,
)
from properties.oracles import ORACLES
from properties.subjects import subject
from properties.subjects.attaching import attach
from properties.subjects.layer_runs import Layer, run_layers
from strategies import AdaptedLayer, LinearRecipe, adapted_layers, gaussian, trained_layers


@claim(adapted_layers, stage="forward", share=0.5, about=("hra",))
def test_zero_rows_of_hra_are_no_reflection(case: AdaptedLayer) -> None:
    """With U = 0 the output and the input's gradient are exactly the base's; U's gradient is finite."""
    attached = attach(case)
    x = case.x().requires_grad_()
    plain = attached.model[0].forward(x)  # type: ignore[index]  # forward() alone runs no hooks
    upstream = gaussian(case.seed, "upstream", tuple(plain.shape), plain.dtype)
    (dx,) = torch.autograd.grad(plain, x, upstream)
    with torch.no_grad():
        for tensor in subject.tensors(attached.model)["0"].values():
            tensor.zero_()
    (layer,) = run_layers(attached)
    assert_equal(layer.y.detach(), plain.detach(), what="the output with U = 0", like="the base's")
    assert_equal(layer.dx, dx, what="the gradient of the input with U = 0", like="the base's")
    assert_finite(layer.gradients["U"], what="the gradient of U with U = 0")


def frozen_copies(variant: str, **drawn: Any) -> SearchStrategy[AdaptedLayer]:
    """Trained DeLoRA whose norms have no floor, in dtypes that hold very short rows."""
    cases = trained_layers(variant, adapter_dtypes=("float32", "bfloat16", "float64"), **drawn)
    return cases.filter(lambda case: case.option["init"] == "frozen_copy")


@claim(frozen_copies, stage="forward", share=0.2, about=("delora",))
def test_zero_rows_of_delora_give_finite_numbers(case: AdaptedLayer) -> None:
    """With A = 0 or B = 0 output and gradients are finite."""
    for name in ("A", "B"):
        attached = attach(case)
        with torch.no_grad():
            subject.tensors(attached.model)["0"][name].zero_()
        (layer,) = run_layers(attached)
        assert_finite(layer.y, what=f"the output with {name} = 0")
        assert_finite(layer.dx, what=f"the gradient of the input with {name} = 0")
        for other, gradient in layer.gradients.items():
            assert_finite(gradient, what=f"the gradient of {other} with {name} = 0")


@claim(frozen_copies, stage="forward", share=0.5, about=("delora",))
def test_the_length_of_delora_rows_does_not_matter(case: AdaptedLayer) -> None:
    """Rows of A and columns of B times powers of two, down to 2⁻²⁴: the same output."""
    attached = attach(case)
    before = attached.model(case.x()).detach()
    tensors: dict[str, Tensor] = subject.tensors(attached.model)["0"]
    scales = 2.0 ** -torch.arange(24, -1, -3)[: len(tensors["A"])].to(tensors["A"])
    with torch.no_grad():
        tensors["A"] *= scales[:, None]
        tensors["B"] *= scales
    (layer,) = run_layers(attached)
    bound = Bounded(before.double(), expected_output(layer).error.reshape(before.shape))
    what = "the output after rows of A and columns of B were shortened"
    assert_close(layer.y, bound, what=what, like="as before")


def half_precision_copies(variant: str, **drawn: Any) -> SearchStrategy[AdaptedLayer]:
    """The same in float16, on weights of a usual size."""
    half = {"dtype": "float16"}
    return frozen_copies(variant, weights=("gaussian",), **drawn).map(
        lambda case: replace(case, options=tuple({**case.option, **half}.items()))
    )


@claim(half_precision_copies, stage="forward", share=0.3, about=("delora",))
def test_short_rows_of_delora_do_not_overflow(case: AdaptedLayer) -> None:
    """λ over both lengths is more than float16 holds, with the tokens and without; what is added is not."""
    attached = attach(case)
    tensors: dict[str, Tensor] = subject.tensors(attached.model)["0"]
    with torch.no_grad():
        tensors["A"] *= 2.0**-9
        tensors["B"] *= 2.0**-9
    (layer,) = run_layers(attached)
    what = "the output with short rows of A and B"
    assert_close(layer.y, expected_output(layer), what=what, like="the oracle's")


@claim(partial(half_precision_copies, tokens=((1,),)), stage="gradient", about=("delora",))
def test_gradients_of_delora_may_cancel_in_half_precision(case: AdaptedLayer) -> None:
    """Of a short row along its token: the difference of two terms that both overflow float16."""
    attached = attach(case)
    tensors: dict[str, Tensor] = subject.tensors(attached.model)["0"]
    with torch.no_grad():
        tensors["A"][:] = 2.0**-15 * (case.x() * tensors["w"].to(case.base_dtype))
    (layer,) = run_layers(attached)
    assert_agrees(layer, output=False, dx=False, where="with rows of A along their token")


@claim(st.just, stage="gradient", about=("delora",), subject="lora_lite")
def test_strengths_of_delora_may_cancel_in_half_precision(variant: str) -> None:
    """Two directions that pull λ as far up as down, by more than float16 holds."""
    model: Any = nn.Sequential(nn.Linear(4, 4, bias=False)).half()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(4))
        adapter = ll.attach(model, ll.DeLoRAConfig(r=2, dtype=torch.float16))
        tensors = dict(adapter.named_parameters())
        tensors["0.A"].copy_(torch.eye(4)[[0, 0]])
        tensors["0.B"].copy_(torch.tensor([1.0, -1.0]) * torch.eye(4)[:, [0]])
    e = torch.eye(4, dtype=torch.float16)[:1]
    model(500 * e).backward(500 * e)
    gradient: Any = tensors["0.lambda_"].grad
    assert_zero(gradient, what="the gradient of λ, whose terms cancel,")


@claim(st.just, stage="gradient", about=("hra",))
def test_hra_stays_accurate_with_many_nearly_parallel_rows(variant: str) -> None:
    """256 of them in float32, against the oracle: fewer are accurate by luck on some processors."""
    case = AdaptedLayer(variant, LinearRecipe(64, 8), (("r", 256), ("dtype", "float32")), tokens=(5,))
    attached = attach(case)
    with torch.no_grad():
        for tensor in subject.tensors(attached.model)["0"].values():
            row = gaussian(1, "row", (1, tensor.shape[1]))
            tensor.copy_(row + 1e-2 * gaussian(2, "spread", tuple(tensor.shape)))
    (layer,) = run_layers(attached)
    gradient = exact_gradient(layer)
    off = (layer.gradients["U"].double() - gradient).norm() / gradient.norm()
    what = "the relative error of the gradient of U with 256 nearly parallel rows"
    assert_within(off, torch.zeros_like(off), claim_bound(1.0, torch.float32), what=what, like="zero")


def exact_gradient(layer: Layer) -> Tensor:
    """U's gradient, by the oracle."""
    U = layer.tensors["U"].detach().double().requires_grad_()
    x, W = layer.x.detach().double(), layer.weight.double()
    y = ORACLES["hra"].forward(x, W, None, torch.zeros(len(x), len(W), dtype=torch.float64), {"U": U}, {}, {})
    return torch.autograd.grad(y, U, layer.upstream.double())[0]


@claim(st.just, stage="forward", about=("antipasto",))
def test_small_turns_of_antipasto_keep_their_digits(variant: str) -> None:
    """On large singular values, in a base fine enough to show it: S itself must not cancel."""
    linear = LinearRecipe(8, 8, dtype="float64", weight="huge")
    attached = attach(AdaptedLayer(variant, linear, (("r", 4), ("block_size", 4), ("dtype", "float32"))))
    with torch.no_grad():
        for name, tensor in subject.tensors(attached.model)["0"].items():
            if isinstance(tensor, nn.Parameter):
                tensor.copy_(1e-4 * gaussian(0, name, tuple(tensor.shape)))
    (layer,) = run_layers(attached)
    assert_close(layer.y, expected_output(layer), what="the output with turns of 1e-4", like="the oracle's")


@claim(st.just, stage="gradient", about=("delora",), subject="lora_lite")
def test_on_a_line_first_gradients_of_delora_are_as_declared(variant: str) -> None:
    """With one output a direction of B cannot turn, with one input none of A: exactly zero."""
    for d_in, d_out in ((3, 1), (1, 3), (3, 3)):
        torch.manual_seed(0)
        model: Any = nn.Sequential(nn.Linear(d_in, d_out))
        ll.attach(model, ll.DeLoRAConfig(r=2))
        model(torch.randn(4, d_in)).square().sum().backward()
        for name, declared in subject.first_gradients(model)["0"].items():
            found = "nonzero" if subject.tensors(model)["0"][name].grad.any() else "zero"  # type: ignore[union-attr]
            told = f"delora on {d_in} → {d_out}: the first gradient of {name} is {found}, declared {declared}"
            assert_holds(found == declared, claim=told)
