"""Whatever is done with a model and its adapters, in whatever order: each is what it should be after every
step.
"""

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from properties.judging.claim import every_variant, told
from properties.judging.life import live
from properties.judging.life_machine import Machine
from properties.subjects.observe import has_oracle
from strategies import Lifecycle, lifecycles


@every_variant(lifecycles, share=0.3, applies=has_oracle)
def test_a_life_leaves_every_model_as_it_should_be(case: Lifecycle) -> None:
    """Bits of the base, flags, hooks, modes, handles and outputs of every model, after each step."""
    live(case)


@pytest.mark.slow
def test_the_machine_finds_nothing_wrong_in_fifty_steps(request: pytest.FixtureRequest) -> None:
    """A run is fifty steps long: a tenth of the examples will do. Steps that fail are written down as a life
    of lora.
    """
    runs = max(1, settings().max_examples // 10)
    with told("a_life_leaves_every_model_as_it_should_be", "lora", request):
        run_state_machine_as_test(Machine, settings=settings(max_examples=runs, stateful_step_count=50))
