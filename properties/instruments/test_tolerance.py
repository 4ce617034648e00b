"""Tests of the error model: no false alarm on plain arithmetic in each dtype, and no room for a wrong
result.
"""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from properties.judging.assertions import (
    Violation,
    assert_close,
    assert_equal,
    assert_identical,
    assert_nonzero,
    assert_within,
    assert_zero,
)
from properties.judging.claim import load_claims
from properties.judging.expected import OracleError, expected, expected_output
from properties.judging.outcome import Meter, measuring
from properties.judging.tolerance import (
    Bounded,
    claim_bound,
    handed_over,
    least_rounding,
    perturbed,
    rounding,
    scatter,
    unit_roundoff,
)
from properties.mutation.reach import budget
from properties.oracles import ORACLES
from properties.subjects import layer_runs
from properties.subjects.attaching import attach
from properties.subjects.layer_runs import run_layers
from strategies import DTYPES, AdaptedLayer, LinearRecipe, gaussian, trained_layers

pytestmark = pytest.mark.instruments

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 24), st.integers(1, 6))


def product(seed: int, shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[torch.Tensor, Bounded]:
    """A product x Wᵀ computed in `dtype`, and its bound."""
    tokens, d_in, d_out = shape
    x, W = gaussian(seed, "x", (tokens, d_in), dtype), gaussian(seed, "W", (d_out, d_in), dtype)
    return x @ W.mT, scatter(perturbed("x", x, dtype) @ perturbed("W", W, dtype).mT, dtype)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@given(seed=st.integers(0, 2**16), shape=SHAPES)
@settings(max_examples=200)
def test_a_product_in_each_dtype_stays_within_half_of_its_bound(
    dtype: torch.dtype, seed: int, shape: tuple[int, int, int]
) -> None:
    with measuring(Meter()) as meter:
        assert_close(*product(seed, shape, dtype), what="x Wᵀ")
    assert max(meter.worst.values()) < 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=st.integers(0, 2**16), shape=SHAPES)
@settings(max_examples=100)
def test_a_product_that_is_off_by_a_thousandth_is_noticed(
    dtype: torch.dtype, seed: int, shape: tuple[int, int, int]
) -> None:
    got, bound = product(seed, shape, dtype)
    largest = bound.value.abs() == bound.value.abs().max()
    with pytest.raises(Violation, match="× the bound"):
        assert_close(torch.where(largest, got * 1.001, got), bound, what="x Wᵀ")


@pytest.mark.parametrize("name", ORACLES)
def test_the_output_alone_has_the_bound_that_it_has_beside_its_gradients(name: str) -> None:
    """Bit for bit, in each pair of dtypes."""
    checked = 0

    @given(trained_layers(name))
    @settings(max_examples=20, database=None, phases=[Phase.generate])
    def check(case: AdaptedLayer) -> None:
        nonlocal checked
        for layer in run_layers(attach(case)):
            alone, beside = expected_output(layer), expected(layer).y
            assert_identical(alone.value, beside.value, what="the value")
            assert_identical(alone.error, beside.error, what="the bound")
            checked += 1

    check()
    assert checked


def test_the_bound_knows_cancellation() -> None:
    """1e6 − 1e6 + 1 in float32 is off by far more than a rounding of 1, and the bound says so."""
    terms = torch.tensor([[1e6, -1e6, 1.0]])
    bound = scatter(perturbed("terms", terms, torch.float32).sum(-1), torch.float32)
    assert float(bound.error[0]) > 1e5 * unit_roundoff(torch.float32)


def test_exact_zeros_stay_exact() -> None:
    """What is multiplied by an exact zero has no tolerance but for the smallest number there is."""
    bound = scatter(
        perturbed("A", torch.randn(3, 3), torch.float32) @ torch.zeros(3, 3).double(), torch.float32
    )
    assert float(bound.error.max()) < 1e-40


def test_what_overflows_may_be_anything() -> None:
    """And what a layer makes of the overflow of the one before it."""
    assert scatter(torch.tensor([[7e4], [7e4]], dtype=torch.float64), torch.float16).error.isinf().all()
    unknown = torch.full((2, 1), torch.nan, dtype=torch.float64)
    assert scatter(unknown, torch.float16, overflowed=True).error.isinf().all()


def test_a_part_that_overflows_where_it_is_handed_over_may_be_anything() -> None:
    """Though the sum of the parts does not, and though it was computed in a dtype that holds it; so may what
    is no number.
    """
    part = torch.tensor([7e4, 10.0, torch.nan, torch.inf], dtype=torch.float64)
    for dtypes, overflows in (
        ((torch.float16,), True),
        ((torch.float32, torch.float16), True),
        ((torch.float32,), False),
    ):
        assert handed_over(part, part, *dtypes).isinf().tolist() == [overflows, False, True, True]


def test_an_overflow_may_spread_where_an_adapter_of_the_input_takes_it_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An upstream gradient so large that the base's own part of x's gradient overflows, here and there."""
    case = AdaptedLayer(
        variant="hra",
        linear=LinearRecipe(d_in=8, d_out=8, bias=False, dtype="float16", weight="vast", seed=0),
        options=(("r", 2), ("dtype", "float32")),
        tokens=(3,),
        trained=True,
        calibrated=False,
        seed=0,
    )
    monkeypatch.setattr(layer_runs, "gaussian", lambda *drawn: 100 * gaussian(*drawn))
    gradients = load_claims()["gradients_agree_with_the_oracle"]
    (layer,) = run_layers(attach(case))
    assert not layer.dx.isfinite().all()
    gradients.judge(case)


def test_nothing_agrees_with_a_nan_that_no_overflow_made() -> None:
    for results in ([torch.nan, torch.nan], [1.0, torch.nan], [torch.inf, torch.inf]):
        bound = scatter(torch.tensor(results, dtype=torch.float64)[:, None], torch.float32)
        for got in (torch.nan, torch.inf, 2.0):
            with pytest.raises(Violation):
                assert_close(torch.tensor([got]), bound, what="the output")


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
@pytest.mark.parametrize("claim", ["forward_agrees_with_the_oracle", "gradients_agree_with_the_oracle"])
def test_an_oracle_that_gives_no_number_is_at_fault(
    claim: str, wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the variant that it judges; least of all does everything agree with it."""
    oracle = ORACLES["lora"]
    monkeypatch.setitem(ORACLES, "lora", oracle._replace(forward=lambda *told: oracle.forward(*told) * wrong))
    with pytest.raises(OracleError, match=r"ORACLES\['lora'\]"):
        load_claims()[claim].run("lora", budget(3, shrink=False))


def test_rounding_is_one_spacing() -> None:
    for dtype in DTYPES.values():
        value = torch.tensor([1 / 3, 1e-3, 3e2], dtype=torch.float64)
        assert bool(((value.to(dtype).double() - value).abs() <= rounding(value, dtype)).all())


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_nan_and_inf_never_pass(wrong: float) -> None:
    for got, wanted in ((wrong, 1.0), (1.0, wrong), (wrong, wrong)):
        with pytest.raises(Violation):
            assert_within(torch.tensor([got]), torch.tensor([wanted]), 1e9, what="finite")


def test_shapes_are_not_broadcast() -> None:
    with pytest.raises(Violation, match="shape"):
        assert_within(torch.zeros(3), torch.zeros(1), 1.0, what="shape")


def test_a_claim_of_equality_has_no_room() -> None:
    assert claim_bound(0.0, torch.float32) == 0
    with pytest.raises(Violation):
        assert_within(
            torch.tensor([1e-30]), torch.tensor([0.0]), claim_bound(0.0, torch.float32), what="zero"
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_smaller_than_any_normal_number_is_rounded_to_the_smallest_spacing(
    dtype: torch.dtype,
) -> None:
    spacing = 2 * least_rounding(dtype)
    size = torch.tensor([1.5 * spacing], dtype=torch.float64)
    assert (size.to(dtype).double() - size).abs() <= claim_bound(size, dtype)
    assert claim_bound(float(size), dtype) == claim_bound(size, dtype)


def test_identical_means_dtype_and_every_bit() -> None:
    one = torch.ones(2)
    assert_identical(one, one.clone(), what="same")
    for other in (one.double(), torch.nextafter(one, 2 * one), torch.ones(1, 2)):
        with pytest.raises(Violation):
            assert_identical(other, one, what="same")


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_zero_of_the_other_sign_is_equal_and_not_identical(dtype: torch.dtype) -> None:
    """Of any shape: a λ has none. An exact zero is of either sign."""
    for shape in ((), (2, 3)):
        zero = torch.zeros(shape, dtype=dtype)
        assert_equal(-zero, zero, what="zero")
        assert_zero(-zero, what="zero")
        assert_identical(-zero, -zero, what="zero")
        with pytest.raises(Violation, match=r"not bit for bit .* got -0, wanted \+0"):
            assert_identical(-zero, zero, what="zero")


def test_a_gradient_of_nan_is_not_nonzero() -> None:
    with pytest.raises(Violation, match="not finite"):
        assert_nonzero(torch.tensor([torch.nan]), what="learns")
