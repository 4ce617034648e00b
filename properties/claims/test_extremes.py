"""The whole range of numbers: every setting and every weight over all that its type holds is refused by its
name, or gives a finite output and the identity that is declared.
"""

from typing import Any

import torch
from torch import nn

import lora_lite as ll
from lora_lite.linear import LinearShape
from properties.judging.assertions import assert_finite, assert_holds, assert_nonzero, assert_within
from properties.judging.claim import claim
from properties.judging.fixed_models import simple_config, x
from properties.judging.tolerance import claim_bound, coarser
from properties.subjects.attaching import seed_inits
from strategies.extremes import EXPONENTS, WIDTH, Setting, Weights, settings, weights
from strategies.tensors import DTYPES, gaussian

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


@claim(settings, stage="refusal", about=NUMBERED, subject="lora_lite", share=0.7)
def test_every_number_is_refused_by_its_field_or_works(case: Setting) -> None:
    """Zero, subnormal, ordinary, the largest."""
    field, kind = case.field, ll.VARIANTS[case.variant].config_class.__name__
    try:
        config = case.config()
    except ll.ConfigError as error:
        told = str(error).startswith(f"{kind}.{field}: found ") and "wanted" in str(error)
        assert_holds(told, claim=f"the refusal of {field}={case.number!r} says {error}")
        return
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(gaussian(case.seed, "weight", (WIDTH, WIDTH)))  # type: ignore[operator]  # a tensor
    plain = model(x(3)).detach()
    if attached(config, model, "0: ", torch.float32) is not None:
        dtype = coarser(DTYPES[case.dtype], torch.float32)
        assert_identity(model, plain, x(3), dtype, strength_of(config))


@claim(weights, stage="refusal", subject="lora_lite", share=0.7)
def test_every_weight_is_refused_by_its_layer_or_works(case: Weights) -> None:
    """From what is too small to square to what is too large: nothing is lost in norms, and all learns."""
    model, dtype = case.build(), DTYPES[case.dtype]
    config: Any = simple_config(case.variant, dtype=torch.promote_types(dtype, torch.float32))
    # Outputs of ordinary size, or as large as they can get.
    given = (x(3).double() * 2.0 ** -max(0, case.exponent)).to(dtype)
    plain = model(given).detach()
    if (adapter := attached(config, model, "0: ", dtype)) is None:
        return
    assert_identity(model, plain, given, dtype, strength_of(config))
    # Halfway to the smallest number a product of three is lost in any dtype.
    if EXPONENTS[case.dtype][0] / 2 < case.exponent < 0 and case.of == "all":
        size = plain.double().abs().amax()
        (model(given).double() / size).square().sum().backward()
        for name, parameter in adapter.named_parameters():
            spec = adapter.layers()["0"].specs(LinearShape(4, 4), config)[name.removeprefix("0.")]
            if spec.first_gradient == "nonzero":
                assert_nonzero(parameter.grad, what=f"the first gradient of {name} on small weights")
