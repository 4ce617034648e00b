"""A fresh adapter changes nothing."""

import torch

import lora_lite as ll
from properties.judging.assertions import assert_close, assert_equal
from properties.judging.claim import every_variant
from properties.judging.tolerance import Bounded
from properties.subjects.lora_lite import implementation
from properties.subjects.observe import default_run, expected_output, has_oracle, observe, subject
from strategies import AdaptedLayer, AdaptedModel, adapted_layers, adapted_models


def has_a_bound(variant: type[ll.Variant]) -> bool:
    """An identity to rounding takes its bound from the oracle; an exact one needs none."""
    return has_oracle(variant) or getattr(variant.identity, "__func__", None) is ll.Variant.identity.__func__  # type: ignore[attr-defined]


@every_variant(adapted_layers, applies=has_a_bound)
def test_identity_at_init(case: AdaptedLayer) -> None:
    """Exactly where the variant declares it so, else to rounding; in every base and adapter dtype."""
    plain = case.build()(case.x())
    made = subject(case)
    if implementation.identity(case) == "exact":
        assert_equal(made.model(case.x()), plain, claim="the output at init is the base's")
    else:
        (layer,) = observe(made)
        bound = expected_output(layer).error.reshape(plain.shape)
        assert_close(
            layer.y,
            Bounded(plain.detach().double(), bound),
            claim="the output at init is the base's, to rounding",
        )


@every_variant(adapted_models, share=0.3, applies=has_a_bound)
def test_identity_at_init_of_a_whole_model(case: AdaptedModel) -> None:
    """Every adapted layer of a model gives what its base gives on the same input; exact variants give the
    same logits.
    """
    plain = default_run(case)(case.build())
    made = subject(case)
    if implementation.identity(case) == "exact":
        assert_equal(default_run(case)(made.model), plain, claim="the model's output at init is the base's")
        return
    for layer in observe(made):
        base = torch.nn.functional.linear(layer.x, layer.weight, layer.bias).detach().double()
        bound = expected_output(layer).error.reshape(base.shape)
        assert_close(layer.y, Bounded(base, bound), claim=f"the output of {layer.name} at init is the base's")
