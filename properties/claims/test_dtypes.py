"""Every base dtype with every adapter dtype: under autocast, and with numbers far from the usual ones."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from properties.judging.agreement import assert_agrees
from properties.judging.assertions import (
    assert_close,
    assert_finite,
    assert_holds,
    assert_identical,
    assert_runs,
    assert_within,
)
from properties.judging.claim import claim
from properties.judging.expected import adapts_input, expected, expected_output, options_of
from properties.judging.fixed_models import Stack, adapt, adapt_and_move, x
from properties.judging.own_formula import formula_of, its_formula
from properties.judging.tolerance import (
    PROBES,
    SAFETY,
    Bounded,
    coarser,
    perturbed,
    perturbed_all,
    rounding,
    unit_roundoff,
)
from properties.subjects import subject
from properties.subjects.attaching import attach
from properties.subjects.layer_runs import run_layers
from properties.subjects.protocol import adapter_dtype
from strategies import DTYPES, AdaptedLayer, trained_layers, weight_and_bias
from strategies.dtypes import Autocast, autocasts, far_layers, wide_in_half_precision
from strategies.tensors import device


@claim(autocasts, stage="forward", share=0.5, capability="autocast")
def test_under_autocast_the_output_is_the_oracles(case: Autocast) -> None:
    """Of a base that computes in autocast's dtype; and so are the gradients of the adapter's parameters."""
    (layer,) = run_layers(attach(case.layer), case.run)
    found = f"the output under autocast is {layer.y.dtype}, wanted {case.base_dtype}"
    assert_holds(layer.y.dtype == case.base_dtype, claim=found)
    wanted = expected(layer, base=coarser(case.base_dtype, layer.x.dtype))
    # Stored in autocast's dtype, whose smallest numbers are not those of the coarser one.
    stored = rounding(wanted.y.value, case.base_dtype)
    wanted = replace(wanted, y=Bounded(wanted.y.value, wanted.y.error + stored))
    assert_agrees(layer, wanted, dx=False, where="under autocast")


def assert_finite_where(got: Tensor, bound: Bounded, *, what: str) -> None:
    """Finite wherever the dtype can hold what the oracle says."""
    fits = bound.error.reshape(got.shape) != torch.inf
    assert_finite(got.where(fits, 0.0), what=what)


@claim(far_layers, stage="forward", share=0.5)
def test_output_and_gradients_are_finite_at_any_rank_and_strength(case: AdaptedLayer) -> None:
    """In every dtype, wherever the dtype can hold what the formula gives."""
    (layer,) = run_layers(attach(case))
    wanted = expected(layer)
    assert_finite_where(layer.y, wanted.y, what="the output")
    assert_finite_where(layer.dx, wanted.dx, what="the gradient of the input")
    for name, gradient in layer.gradients.items():
        assert_finite_where(gradient, wanted.gradients[name], what=f"the gradient of {name}")


@claim(wide_in_half_precision, stage="forward", share=0.5)
def test_squares_that_overflow_half_precision_leave_the_output_right(case: AdaptedLayer) -> None:
    """A norm of Inf would turn the output to zero or NaN, or make attach refuse."""
    with assert_runs("attach to a weight that float16 holds, and its squares not,"):
        attached = attach(case)
    (layer,) = run_layers(attached)
    what = "the output of a layer whose squares overflow"
    assert_close(layer.y, expected_output(layer), what=what, like=its_formula(case.variant))


@claim(st.just, stage="forward", about=("lora",))
def test_an_adapter_computes_in_its_own_dtype_under_autocast(variant: str) -> None:
    """x = 1 + 2⁻¹⁰ is 1 in bfloat16: what depends on the difference must not vanish."""
    given = torch.tensor([[1 + 2**-10, 1.0, 0, 0]])
    model = adapt(Stack(), variant, target_names="first")
    tensors = subject.tensors(model)["first"]
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.zero_()
        model.first.weight.zero_()  # type: ignore[operator, union-attr]  # a Stack's
        model.first.bias.zero_()  # type: ignore[operator, union-attr]
        tensors["A"][0, 0], tensors["A"][0, 1], tensors["B"][:, 0] = 1, -1, 2.0**10
    with torch.autocast(device().type, dtype=torch.bfloat16):
        got = model.first(given)  # type: ignore[operator]
    wanted = torch.full((1, 4), 8.0, dtype=torch.bfloat16)
    what, like = "the output of lora at alpha / r = 8 under autocast", "s (x Aᵀ) Bᵀ of the unrounded x"
    assert_identical(got, wanted, what=what, like=like)


@claim(st.just, stage="forward", needs=("adapted input",))
def test_an_adapted_input_is_the_same_under_autocast(variant: str) -> None:
    """A variant that changes what the base is given computes it in its own dtype."""
    model: Any = adapt_and_move(Stack(), variant, target_names="first")
    seen: list[Tensor] = []
    model.first.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    model.first(x(3))
    with torch.autocast(device().type, dtype=torch.bfloat16):
        model.first(x(3))
    what = "what the adapter gives the base under autocast"
    assert_identical(seen[1], seen[0], what=what, like="what it gives without")


@claim(st.just, stage="forward")
def test_the_output_keeps_the_base_dtype(variant: str) -> None:
    """Whatever the adapter's; the adapter's own tensors have the config's dtype, float32 by default, and not
    the base's.
    """
    for base, dtype in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float32),
    ):
        model = adapt(nn.Sequential(nn.Linear(4, 4, dtype=base)), variant, dtype=dtype)
        (tensors,) = subject.tensors(model).values()
        for name, tensor in tensors.items():
            found = f"{name} on a base in {base} is {tensor.dtype}, wanted the config's {dtype}"
            assert_holds(tensor.dtype == dtype, claim=found)
        got = model(x(3).to(base)).dtype
        found = f"the output of an adapter in {dtype} on a base in {base} is {got}, wanted the base's"
        assert_holds(got == base, claim=found)


# Variants that work in float32 at least, whatever the dtype that all their tensors are stored in.
WIDE = {"hra"}


def finer_than_base(variant: str) -> st.SearchStrategy[AdaptedLayer]:
    """Trained layers whose adapter works in a dtype so much finer than the base's that one rounding can be
    told from two.
    """

    def finer(base: str) -> tuple[str, ...]:
        roundoff = unit_roundoff(DTYPES[base])
        return tuple(
            n for n, d in DTYPES.items() if SAFETY * unit_roundoff(working_dtype(variant, d)) < roundoff
        )

    return st.one_of(
        *(
            trained_layers(variant, base_dtypes=(base,), adapter_dtypes=finer(base))
            for base in ("bfloat16", "float32")
        )
    )


def working_dtype(variant: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype in which the variant computes where its tensors are stored in this one."""
    return torch.promote_types(dtype, torch.float32) if variant in WIDE else dtype


@claim(finer_than_base, stage="forward")
def test_only_the_result_is_rounded_to_the_base_dtype(case: AdaptedLayer) -> None:
    """Given the base's own output (a pre-hook variant: its input), what comes out is the oracle's, rounded
    once.
    """
    attached = attach(case)
    module: Any = attached.model[0]  # type: ignore[index]  # an nn.Sequential of one layer
    seen: list[Tensor] = []
    # After the adapter's own hook: what the base layer is given.
    module.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    x, (W, b) = case.x(), weight_and_bias(module)
    got, dtype = attached.model(x).detach(), working_dtype(case.variant, adapter_dtype(case))
    tensors, (initial,) = subject.tensors(attached.model)["0"], attached.initial.values()
    p, p0 = perturbed_all("now ", tensors, dtype), perturbed_all("initial ", initial, dtype)
    xs = perturbed("x", x.reshape(-1, x.shape[-1]), dtype)
    if adapts_input(case.variant):
        (got,) = seen
        eye = torch.eye(case.linear.d_in, dtype=torch.float64).expand(1 + PROBES, -1, -1)
        y = formula_of(case.variant).forward(xs, eye, None, torch.zeros_like(xs), p, p0, options_of(case))
    else:
        plain = perturbed("plain", F.linear(x, W, b).reshape(-1, case.linear.d_out), dtype)
        Ws, bs = perturbed("W", W, dtype), None if b is None else perturbed("b", b, dtype)
        exact = xs @ Ws.mT + (0 if bs is None else bs.unsqueeze(-2))
        y = formula_of(case.variant).forward(xs, Ws, bs, plain - exact, p, p0, options_of(case))
    what = "what the adapter gives the base" if adapts_input(case.variant) else "the output"
    assert_rounded_once(got, y.detach(), dtype, what=what, like=its_formula(case.variant))


def assert_rounded_once(got: Tensor, results: Tensor, dtype: torch.dtype, *, what: str, like: str) -> None:
    """Some number that rounds to `got` is as near to the exact result as the probes scatter, over the token's
    row: of a transform each number is rounded on its own, and one that cancels is as coarse as its terms.
    """
    exact, got = results[0], got.reshape(results[0].shape)
    spread = (results[1:] - exact).square().mean(0)
    error = SAFETY * (spread + spread.mean(-1, keepdim=True)).sqrt()
    # Half the spacing of the dtype's numbers where the result lies.
    size = (exact.abs() + error).clamp(min=torch.finfo(got.dtype).smallest_normal)
    half = unit_roundoff(got.dtype) * torch.exp2(torch.frexp(size).exponent - 1)
    unrounded = exact.clamp(got.double() - half, got.double() + half)
    like = f"{like}, rounded to the base dtype once"
    assert_within(unrounded, exact, error, what=what, like=like, dtype=dtype)
