"""Whatever is done with a model and its adapters, in whatever order: each is what it should be after every
step.
"""

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from properties.judging.claim import claim
from properties.judging.life import live
from properties.judging.life_machine import Machine
from strategies import Lifecycle, lifecycles


@claim(lifecycles, stage="attach", share=0.3, subject="lora_lite")
def test_a_life_leaves_every_model_as_it_should_be(case: Lifecycle) -> None:
    """Bits of the base, flags, hooks, modes, handles and outputs of every model, after each step."""
    live(case)


@claim(stage="attach", slow=True, budgeted=True, subject="lora_lite")
def test_the_machine_finds_nothing_wrong_in_fifty_steps() -> None:
    """Of fifty steps each, so that a tenth of the examples will do. Those that fail are kept as a life."""
    runs = max(1, settings().max_examples // 10)
    run_state_machine_as_test(Machine, settings=settings(max_examples=runs, stateful_step_count=50))
