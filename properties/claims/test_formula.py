"""The formula: at parameters away from init, and what init put there."""

from dataclasses import replace

import torch
from hypothesis.strategies import SearchStrategy

from properties.judging.assertions import assert_close, assert_identical, assert_within
from properties.judging.claim import every_variant
from properties.judging.tolerance import claim_bound, coarser
from properties.oracles import ORACLES
from properties.subjects.lora_lite import adapter_dtype
from properties.subjects.observe import AnyCase, expected_output, has_oracle, observe, options_of, subject
from strategies import AdaptedLayer, AdaptedModel, adapted_layers, trained_layers, trained_models
from strategies.options import accepts


def check_forward(case: AnyCase) -> None:
    for layer in observe(subject(case)):
        assert_close(layer.y, expected_output(layer), claim=f"the output of {layer.name} is the oracle's")


@every_variant(trained_layers, applies=has_oracle)
def test_forward_agrees_with_the_oracle(case: AdaptedLayer) -> None:
    """Away from init, where the identity hides nothing."""
    check_forward(case)


@every_variant(trained_models, share=0.3, applies=has_oracle)
def test_forward_in_a_whole_model_agrees_with_the_oracle(case: AdaptedModel) -> None:
    """In every layer of a model, at the input that it got there."""
    check_forward(case)


@every_variant(trained_layers, share=0.5)
def test_the_output_depends_on_no_earlier_batch(case: AdaptedLayer) -> None:
    """Nothing is measured on the first batch, or kept from it, that the parameters do not hold."""
    alone, after = subject(case).model, subject(case).model
    after(torch.flip(case.x(), (-1,)) * -3).sum().backward()
    assert_identical(
        after(case.x()), alone(case.x()), claim="the output after another batch is the output without"
    )


def check_init(case: AdaptedLayer) -> None:
    made = subject(case)
    (tensors,) = made.initial.values()
    W = made.base["0.weight"].double()
    batches = case.calibration()
    inputs = None if batches is None else torch.cat(batches).double()
    dtype = coarser(adapter_dtype(case), torch.promote_types(case.base_dtype, torch.float32))
    p = {name: tensor.double() for name, tensor in tensors.items()}
    for claim in ORACLES[case.variant].init_claims(W, None, p, options_of(case), inputs):
        bound = claim_bound(claim.magnitude, dtype)
        assert_within(claim.got, claim.wanted, bound, claim=f"init: {claim.name}", dtype=dtype)


@every_variant(adapted_layers, applies=has_oracle)
def test_init_agrees_with_the_oracle(case: AdaptedLayer) -> None:
    """Subspaces, norms, ranks and ranges of what init put into the tensors."""
    check_init(case)


def large_layers(variant: str) -> SearchStrategy[AdaptedLayer]:
    """Layers so large that random numbers fill their range."""

    def large(case: AdaptedLayer) -> AdaptedLayer:
        options = {**case.option, "r": 8}
        return replace(case, linear=replace(case.linear, d_in=32, d_out=24), options=tuple(options.items()))

    def fits(case: AdaptedLayer) -> bool:
        return accepts(variant, 32, 24, case.options)

    return adapted_layers(variant, weights=("gaussian",)).map(large).filter(fits)


@every_variant(
    large_layers, share=0.3, applies=lambda kind: has_oracle(kind) and "r" not in kind.config_class.unused
)
def test_init_of_a_large_layer_agrees_with_the_oracle(case: AdaptedLayer) -> None:
    """How far random numbers reach, and where their mean lies, shows in many of them."""
    check_init(case)
