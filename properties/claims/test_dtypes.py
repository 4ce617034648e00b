"""Every base dtype with every adapter dtype: under autocast, and with numbers far from the usual ones."""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor, nn

from properties.judging.agreement import assert_agrees
from properties.judging.assertions import (
    assert_close,
    assert_finite,
    assert_holds,
    assert_runs,
    assert_within,
)
from properties.judging.claim import claim
from properties.judging.expected import adapts_input, expected, expected_output, options_of
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
from properties.oracles import ORACLES
from properties.subjects import subject
from properties.subjects.attaching import attach
from properties.subjects.observation import observe
from properties.subjects.protocol import adapter_dtype
from strategies import DTYPES, AdaptedLayer, LinearRecipe, trained_layers
from strategies.options import Options, accepts, own_options


@dataclass(frozen=True)
class Autocast:
    """A layer run under torch.autocast to this dtype."""

    layer: AdaptedLayer
    dtype: str

    def run(self, model: nn.Module) -> Tensor:
        x = self.layer.x()
        with torch.autocast(x.device.type, dtype=DTYPES[self.dtype]):
            return model(x)  # type: ignore[no-any-return]

    @property
    def base_dtype(self) -> torch.dtype:
        """What autocast makes of the base: float64 is left alone."""
        own = self.layer.base_dtype
        return own if own == torch.float64 else DTYPES[self.dtype]


def autocasts(variant: str) -> st.SearchStrategy[Autocast]:
    """Any layer, under both dtypes that autocast knows."""
    return st.builds(Autocast, trained_layers(variant), st.sampled_from(("bfloat16", "float16")))


@claim(autocasts, stage="forward", share=0.5, needs=("oracle",), capability="autocast")
def test_under_autocast_the_output_is_the_oracles(case: Autocast) -> None:
    """Of a base that computes in autocast's dtype; and so are the gradients of the adapter's parameters."""
    (layer,) = observe(attach(case.layer), case.run)
    assert_holds(layer.y.dtype == case.base_dtype, claim=f"under autocast the output is {layer.y.dtype}")
    wanted = expected(layer, base=coarser(case.base_dtype, layer.x.dtype))
    # Stored in autocast's dtype, whose smallest numbers are not those of the coarser one.
    stored = rounding(wanted.y.value, case.base_dtype)
    wanted = replace(wanted, y=Bounded(wanted.y.value, wanted.y.error + stored))
    assert_agrees(layer, wanted, dx=False, where="under autocast")


def extreme(variant: str, options: Options) -> st.SearchStrategy[Options]:
    """Every number among the variant's own options a thousandth or a hundred times of what it is, if the
    config takes that.
    """

    def scaled(value: Any, factor: float) -> Any:
        return value * factor if isinstance(value, float) else value

    own = own_options(variant)
    candidates = [
        tuple((name, scaled(value, factor) if name in own else value) for name, value in options)
        for factor in (1, 1e-3, 100)
    ]
    return st.sampled_from([chosen for chosen in candidates if takes(variant, chosen)])


def takes(variant: str, options: Options) -> bool:
    return accepts(variant, 64, 64, options)


@st.composite
def far_layers(draw: st.DrawFn, variant: str) -> AdaptedLayer:
    """Large ranks on wide layers, and extreme options. Shrinks towards what is usual."""
    case: AdaptedLayer = draw(
        trained_layers(variant, tokens=((3,),), weights=("gaussian", "tiny", "huge", "zero_rows"))
    )
    d_in, d_out = draw(st.sampled_from(((17, 24), (64, 17), (64, 64))))
    options = draw(extreme(variant, tuple((name, value) for name, value in case.options if name != "r")))
    ranks = [r for r in (1, 2, 4, 8, 16, 32, 64) if accepts(variant, d_in, d_out, (*options, ("r", r)))]
    if ranks:
        options = (("r", draw(st.sampled_from(ranks))), *options)
    linear: LinearRecipe = replace(case.linear, d_in=d_in, d_out=d_out)
    return replace(case, linear=linear, options=options)


def assert_finite_where(got: Tensor, bound: Bounded, *, what: str) -> None:
    """Finite wherever the dtype can hold what the oracle says."""
    fits = bound.error.reshape(got.shape) != torch.inf
    assert_finite(got.where(fits, 0.0), what=what)


@claim(far_layers, stage="forward", share=0.5, needs=("oracle",))
def test_output_and_gradients_are_finite_at_any_rank_and_strength(case: AdaptedLayer) -> None:
    """In every dtype, wherever the dtype can hold what the formula gives."""
    (layer,) = observe(attach(case))
    wanted = expected(layer)
    assert_finite_where(layer.y, wanted.y, what="the output")
    assert_finite_where(layer.dx, wanted.dx, what="the gradient of the input")
    for name, gradient in layer.gradients.items():
        assert_finite_where(gradient, wanted.gradients[name], what=f"the gradient of {name}")


def wide_in_half_precision(variant: str) -> SearchStrategy[AdaptedLayer]:
    """Trained layers with a base in float16; squares along its rows and columns add up to more than float16
    holds.
    """
    cases = trained_layers(
        variant, weights=("vast",), base_dtypes=("float16",), adapter_dtypes=("float16", "bfloat16")
    )
    wide = cases.map(lambda case: replace(case, linear=replace(case.linear, d_in=24, d_out=24)))
    return wide.filter(lambda case: accepts(variant, 24, 24, case.options))


@claim(wide_in_half_precision, stage="forward", share=0.5, needs=("oracle",))
def test_squares_that_overflow_half_precision_leave_the_output_right(case: AdaptedLayer) -> None:
    """A norm of Inf would turn the output to zero or NaN, or make attach refuse."""
    with assert_runs("attach on a weight that float16 holds"):
        attached = attach(case)
    (layer,) = observe(attached)
    assert_close(
        layer.y,
        expected_output(layer),
        what="the output of a layer whose squares overflow",
        like="the oracle's",
    )


# Variants that work in float32 at least, whatever the dtype that all their tensors are stored in.
WIDE = {"hra"}


def finer_than_base(variant: str) -> SearchStrategy[AdaptedLayer]:
    """Trained layers whose adapter works in a dtype so much finer than the base's that one rounding can be
    told from two.
    """
    cases = trained_layers(variant, base_dtypes=("bfloat16", "float32"))
    return cases.filter(
        lambda case: SAFETY * unit_roundoff(working_dtype(case)) < unit_roundoff(case.base_dtype)
    )


def working_dtype(case: AdaptedLayer) -> torch.dtype:
    """The dtype in which the variant computes."""
    dtype = adapter_dtype(case)
    return torch.promote_types(dtype, torch.float32) if case.variant in WIDE else dtype


@claim(finer_than_base, stage="forward", needs=("oracle",))
def test_only_the_result_is_rounded_to_the_base_dtype(case: AdaptedLayer) -> None:
    """Given the base's own output (a pre-hook variant: its input), what comes out is the oracle's, rounded
    once.
    """
    attached = attach(case)
    module: Any = attached.model[0]  # type: ignore[index]  # an nn.Sequential of one layer
    seen: list[Tensor] = []
    # After the adapter's own hook: what the base layer is given.
    module.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    x, W, b = case.x(), module.weight.detach(), None if module.bias is None else module.bias.detach()
    got, dtype = attached.model(x).detach(), working_dtype(case)
    tensors, (initial,) = subject.tensors(attached.model)["0"], attached.initial.values()
    p, p0 = perturbed_all("now ", tensors, dtype), perturbed_all("initial ", initial, dtype)
    xs = perturbed("x", x.reshape(-1, x.shape[-1]), dtype)
    if adapts_input(case.variant):
        (got,) = seen
        eye = torch.eye(case.linear.d_in, dtype=torch.float64).expand(1 + PROBES, -1, -1)
        y = ORACLES[case.variant].forward(xs, eye, None, torch.zeros_like(xs), p, p0, options_of(case))
    else:
        plain = perturbed("plain", F.linear(x, W, b).reshape(-1, case.linear.d_out), dtype)
        Ws, bs = perturbed("W", W, dtype), None if b is None else perturbed("b", b, dtype)
        exact = xs @ Ws.mT + (0 if bs is None else bs.unsqueeze(-2))
        y = ORACLES[case.variant].forward(xs, Ws, bs, plain - exact, p, p0, options_of(case))
    assert_rounded_once(got, y.detach(), dtype, what="the result")


def assert_rounded_once(got: Tensor, results: Tensor, dtype: torch.dtype, *, what: str) -> None:
    """Some number that rounds to `got` is as near to the exact result as the probes scatter."""
    exact, got = results[0], got.reshape(results[0].shape)
    error = SAFETY * (results[1:] - exact).square().mean(0).sqrt()
    # Half the spacing of the dtype's numbers where the result lies.
    size = (exact.abs() + error).clamp(min=torch.finfo(got.dtype).smallest_normal)
    half = unit_roundoff(got.dtype) * torch.exp2(torch.frexp(size).exponent - 1)
    unrounded = exact.clamp(got.double() - half, got.double() + half)
    like = "rounded to the base dtype once"
    assert_within(unrounded, exact, error, what=what, like=like, dtype=dtype)
