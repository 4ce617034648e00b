"""peft as a second oracle: the same tensors, the same input, the same upstream gradient."""

from importlib.util import find_spec

import pytest
from hypothesis.strategies import SearchStrategy, sampled_from

from properties.judging.assertions import assert_close
from properties.judging.claim import every_variant
from properties.subjects.observe import observe, subject
from properties.subjects.peft_layers import PEFT, expected_by_peft
from strategies import AdaptedLayer, trained_layers

pytestmark = pytest.mark.skipif(
    find_spec("peft") is None, reason="peft is not installed: pip install 'lora-lite[peers]'"
)


def shared_with_peft(variant: str) -> SearchStrategy[AdaptedLayer]:
    """Trained layers that peft has too, one dtype throughout: where dtypes mix, each library rounds in places
    of its own.

    At init peft divides by zero for a zero row of W (DoRA) and a zero row of U (HRA). Trained parameters are
    never there, so that every family of weights can stay.
    """
    dtypes = sampled_from(("float32", "float64"))
    layers = dtypes.flatmap(
        lambda dtype: trained_layers(variant, base_dtypes=(dtype,), adapter_dtypes=(dtype,))
    )
    return layers.filter(PEFT[variant].covers)


@every_variant(shared_with_peft, share=0.5, applies=lambda variant: variant.name in PEFT)
def test_agrees_with_peft(case: AdaptedLayer) -> None:
    """Output and every gradient, each to within what rounding may do on both sides."""
    (layer,) = observe(subject(case))
    wanted = expected_by_peft(layer)
    assert_close(layer.y, wanted.y, claim=f"the output of {layer.name} is peft's")
    assert_close(layer.dx, wanted.dx, claim=f"the gradient of {layer.name}'s input is peft's")
    for name, gradient in layer.gradients.items():
        assert_close(gradient, wanted.gradients[name], claim=f"the gradient of {layer.name}.{name} is peft's")
