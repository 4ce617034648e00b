"""Whatever is done with a model and its adapters, in whatever order: each is what it should be after every step."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from properties.assertions import Violation
from properties.lifecycle import Life, live
from properties.observe import has_oracle
from properties.registry import every_variant, told
from strategies import Lifecycle, NestedRecipe, Step, lifecycles
from strategies.layers import SEEDS
from strategies.lifecycles import FROZEN, bases, kinds_of_step


@every_variant(lifecycles, share=0.3, applies=has_oracle)
def test_a_life_leaves_every_model_as_it_should_be(case: Lifecycle) -> None:
    """Bits of the base, flags, hooks, modes, handles and outputs of every model, after each step."""
    live(case)


class Machine(RuleBasedStateMachine):
    """The same life as rules: every run has all its steps, and leaves some kinds of them out altogether."""

    @initialize(model=bases(), frozen=FROZEN, seed=SEEDS)
    def begin(self, model: NestedRecipe, frozen: tuple[int, ...], seed: int) -> None:
        self.recipe = Lifecycle(model, frozen, (), seed)
        self.life = Life(self.recipe)

    def take(self, step: Step) -> None:
        self.recipe = replace(self.recipe, steps=(*self.recipe.steps, step))
        try:
            self.life.take(step)
        except Violation as violation:
            raise Violation(f"{violation}\nrecipe   {self.recipe!r}", case=self.recipe) from None

    def teardown(self) -> None:
        if hasattr(self, "life"):
            self.life.close()


for kind, steps in kinds_of_step("lora").items():
    setattr(Machine, kind, rule(step=steps)(Machine.take))


@pytest.mark.slow
def test_the_machine_finds_nothing_wrong_in_fifty_steps(request: pytest.FixtureRequest) -> None:
    """A run is fifty steps long: a tenth of the examples will do. Steps that fail are written down as a life of lora."""
    runs = max(1, settings().max_examples // 10)
    with told("a_life_leaves_every_model_as_it_should_be", "lora", request):
        run_state_machine_as_test(Machine, settings=settings(max_examples=runs, stateful_step_count=50))
