"""The whole range of numbers: every setting and every weight over all that its type holds is refused by its
name, or gives a finite output and the identity that is declared.
"""

import copy
import itertools
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

import lora_lite as ll
from lora_lite import norms
from lora_lite.linear import linear_shape
from properties.judging.assertions import (
    assert_finite,
    assert_holds,
    assert_nonzero,
    assert_refuses,
    assert_runs,
    assert_within,
    claim_is_about,
)
from properties.judging.claim import claim
from properties.judging.fixed_models import simple_config, starts_as_the_base, x
from properties.judging.tolerance import claim_bound, coarser
from properties.subjects import subject
from properties.subjects.attaching import seed_inits
from strategies.extremes import (
    EXPONENTS,
    NUMBERS,
    WHOLE,
    WIDTH,
    Setting,
    Weights,
    settings,
    weights,
    whole_fields,
)
from strategies.options import BUILT_IN, simplest
from strategies.tensors import DTYPES, gaussian

# Of which part of W a method takes norms.
NORMED = {"dora": "rows", "delora": "columns"}
NUMBERED = ("lora", "pissa", "dora", "delora", "eva", "antipasto")


def attached(config: ll.AdapterConfig, model: nn.Module, name: str, dtype: torch.dtype) -> Any:
    """The handle; None where attach refuses the layer by its name."""
    seed_inits(0)
    needs = ll.VARIANTS[config.variant].needs_calibration
    try:
        return ll.attach(model, config, [x(9).to(dtype), x(5, seed=1).to(dtype)] if needs else None)
    except ll.LoraLiteError as error:
        assert_holds(str(error).startswith(name), claim=f"the refusal {error} does not begin with {name!r}")
    return None


def assert_identity(model: nn.Module, plain: Any, given: Any, dtype: torch.dtype, strength: float) -> None:
    """Finite, and the base's output to the rounding of the terms that cancel, `strength` as large."""
    output = model(given)
    assert_finite(output, what="the output of a fresh adapter")
    if not all(map(starts_as_the_base, ll.adapters_of(model))):
        return
    layer: Any = model[0]  # type: ignore[index]  # an nn.Sequential
    # Sums of sizes, since squares overflow.
    W, size = layer.weight.detach().double().abs(), given.double().abs()
    whole = size.sum(-1, keepdim=True) * W.amax() * WIDTH
    smallest = torch.finfo(dtype).smallest_normal * WIDTH**2
    bound = claim_bound(size @ W.mT + strength * whole, dtype) + smallest
    assert_within(output, plain, bound, what="the output of a fresh adapter", like="the base's")


def strength_of(config: Any) -> float:
    """How large the terms that cancel at init are, over those of the base."""
    return 2 * float(getattr(config, "lambda_init", 1.0)) + 1


@claim(settings, stage="refusal", about=NUMBERED, subject="lora_lite", share=0.1)
def test_every_number_is_refused_by_its_field_or_works(case: Setting) -> None:
    """Zero, subnormal, ordinary, the largest."""
    kind = ll.VARIANTS[case.variant].config_class.__name__
    for number, dtype in itertools.product(NUMBERS, DTYPES.values()):
        try:
            config = case.config(number, dtype)
        except ll.ConfigError as error:
            told = str(error).startswith(f"{kind}.{case.field}: found ") and "wanted" in str(error)
            # What it does to alpha, say, is told of alpha.
            told = told or (case.field == "rho" and "alpha" in str(error))
            assert_holds(told, claim=f"the refusal of {case.field}={number!r} says {error}")
            continue
        model = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False))
        with torch.no_grad():
            model[0].weight.copy_(gaussian(case.seed, "weight", (WIDTH, WIDTH)))  # type: ignore[operator]  # a tensor
        plain = model(x(3)).detach()
        with assert_runs(f"a fresh adapter with {case.field}={number!r:.20} in {dtype}"):
            if attached(config, model, "0: ", torch.float32) is not None:
                assert_identity(model, plain, x(3), coarser(dtype, torch.float32), strength_of(config))


# Of somebody else's setting nobody knows what a thousand million of it would take: it is tried as declared.
@claim(st.just, stage="refusal", about=BUILT_IN, subject="lora_lite")
def test_every_whole_number_is_refused_by_its_field_or_works(variant: str) -> None:
    """Up to what no memory and no patience holds."""
    kind = ll.VARIANTS[variant].config_class
    for field, number in itertools.product(whole_fields(variant), WHOLE):
        options = {**dict(simplest(variant)), field: number}
        # What divides the rank: by itself.
        options |= {"r": number} if field == "block_size" else {}
        try:
            config = kind(**options)
        except ll.ConfigError as error:
            told = f"{kind.__name__}.{field}: found " in str(error) or "block_size" in options
            assert_holds(told, claim=f"the refusal of {field}={number!r} says {error}")
            continue
        model = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False))
        plain = model(x(3)).detach()
        with assert_runs(f"a fresh adapter with {field}={number}"):
            if attached(config, model, "0: ", torch.float32) is not None:
                assert_identity(model, plain, x(3), torch.float32, strength_of(config))


@claim(weights, stage="refusal", subject="lora_lite", share=0.7)
def test_every_weight_is_refused_by_its_layer_or_works(case: Weights) -> None:
    """From what is too small to square to what is too large: nothing is lost in norms, and all learns.

    That numbers below all that the adapter's dtype holds are refused is a promise of the library's own: a
    user's variant may keep a copy of W in which they are zero.
    """
    claim_is_about(case.variant in BUILT_IN or case.exponent >= EXPONENTS[case.adapter][0])
    assert_refused_or_works(case)


@claim(st.just, stage="init", about=tuple(NORMED), subject="lora_lite")
def test_norms_are_those_of_numbers_that_cannot_be_squared(variant: str) -> None:
    """In float32 and in float64, too small and too large."""
    for dtype, exponents in {"float32": (-100, 100), "float64": (-700, 700)}.items():
        for exponent in exponents:
            assert_refused_or_works(Weights(variant, exponent, "all", dtype, dtype, seed=0))


@claim(st.just, stage="init", subject="lora_lite")
def test_a_weight_of_many_blocks_is_looked_at_whole(variant: str) -> None:
    """Of few rows each: what starts from norms starts alike, and a row at the end that is written to is
    noticed by who starts from the weight.
    """
    base: Any = nn.Sequential(nn.Linear(WIDTH, 12))
    started = []
    base[0].weight.data.copy_(gaussian(0, "weight", (12, WIDTH)))
    for size in (norms.AT_ONCE, 2 * WIDTH):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(norms, "AT_ONCE", size)
            adapter = attached(simple_config(variant), model := copy.deepcopy(base), "0", torch.float32)
            y = model(x(3)).detach()
            started.append({name: p.detach().clone() for name, p in adapter.named_parameters()} | {"y": y})
            written = model[0].weight.detach().clone()
            written[-1] *= 2
            model[0].weight.data = written
            if vars(adapter.layers()["0"]).get("sketch") is not None:
                with assert_refuses(ll.BaseWeightError, "another than at attach", claim="another last row"):
                    model(x(3))
    for name, whole in started[0].items():
        bound = claim_bound(whole.abs(), torch.float32)
        assert_within(started[1][name], whole, bound, what=f"{name} by blocks", like="that of the whole")


@claim(st.just, stage="refusal", about=BUILT_IN, subject="lora_lite")
def test_weights_too_small_for_the_adapters_dtype_are_refused_or_work(variant: str) -> None:
    """Of a float64 base under a float32 adapter: all of them, some rows, some columns."""
    for of in ("all", "rows", "columns"):
        assert_refused_or_works(Weights(variant, -158, of, "float64", "float32", seed=0))


def assert_refused_or_works(case: Weights) -> None:
    model, dtype = case.build(), DTYPES[case.dtype]
    config: Any = simple_config(case.variant, dtype=DTYPES[case.adapter])
    # Outputs of ordinary size, or as large as they get without an input that overflows.
    most = 10 if dtype == torch.float16 else 100
    given = (x(3).double() * 2.0 ** min(-case.exponent, most)).to(dtype)
    plain = model(given).detach()
    if (adapter := attached(config, model, "0: ", dtype)) is None:
        return
    assert_identity(model, plain, given, coarser(dtype, config.dtype), strength_of(config))
    # Halfway to the smallest number a product of three is lost in any dtype.
    if max(EXPONENTS[case.dtype][0], -148) / 2 < case.exponent < 0 and case.of == "all":
        size = plain.double().abs().amax()
        (model(given).double() / size).square().sum().backward()
        for name, parameter in adapter.named_parameters():
            spec = adapter.layers()["0"].specs(linear_shape(model[0]), config)[name.removeprefix("0.")]
            if spec.first_gradient == "nonzero":
                assert_nonzero(parameter.grad, what=f"the first gradient of {name} on small weights")


@claim(st.just, stage="refusal", about=("dora", "delora"), subject="lora_lite")
def test_norms_that_the_adapter_cannot_hold_are_refused(variant: str) -> None:
    """One row, or one column, that would be lost; a row of zeros is none, and a wider adapter holds it."""
    model = nn.Sequential(layer := nn.Linear(4, 4, dtype=torch.float64))
    what = NORMED[variant]
    with torch.no_grad():
        part = {"rows": layer.weight, "columns": layer.weight.mT}[what]
        part[0], part[1] = 1e-50, 0.0
    match = f"^0: 1 of 4 {what} of W have norms below what torch.float32 holds, down to 2e-50"
    with assert_refuses(ll.ConfigError, match, claim=f"attach to {what} that float32 does not hold"):
        ll.attach(model, simple_config(variant))
    with assert_runs("attach in float64, as the error says,"):
        ll.attach(model, simple_config(variant, dtype=torch.float64))


@claim(st.just, stage="init", about=("dora",), subject="lora_lite")
def test_norms_of_rows_of_every_size_are_their_norms(variant: str) -> None:
    """Too small to square in float32, ordinary, and too large."""
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight.mul_(torch.tensor([1e-30, 1e-20, 1.0, 1e25])[:, None])
    wanted = layer.weight.detach().double().norm(dim=1)
    with assert_runs("attach to rows from 1e-30 to 1e25"):
        ll.attach(model := nn.Sequential(layer), simple_config(variant))
    got = subject.tensors(model)["0"]["m"].double().flatten()
    bound = claim_bound(4 * wanted, torch.float32)
    assert_within(got, wanted, bound, what="m of rows from 1e-30 to 1e25", like="the rows' norms")
