"""What a variant declares of its formula, as data, holds of its code: evidence without an oracle."""

from functools import partial

from properties.judging.claim import claim
from properties.judging.laws import assert_laws
from properties.judging.layer_function import function_of
from properties.subjects import subject
from properties.subjects.attaching import attach
from strategies import AdaptedLayer, trained_layers

# What breaks a law in float64 is the formula.
exact = partial(
    trained_layers, base_dtypes=("float64",), adapter_dtypes=("float64",), tokens=((1,),), turns=(False,)
)


@claim(exact, stage="forward", needs=("laws",), share=0.2)
def test_declared_laws_hold(case: AdaptedLayer) -> None:
    """Of the trained layer, by the variant's own code: what a law says is the same is, to rounding."""
    assert_laws(function_of(attach(case)), subject.laws(case), case.seed)
