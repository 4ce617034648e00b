"""Whatever is done with a model and its adapters, in whatever order: each is what it should be after every step."""

from properties.lifecycle import live
from properties.registry import every_variant
from strategies import Lifecycle, lifecycles


@every_variant(lifecycles, share=0.3)
def test_a_life_leaves_every_model_as_it_should_be(case: Lifecycle) -> None:
    """Bits of the base, flags, hooks, modes, handles and outputs of every model, after each step."""
    live(case)
