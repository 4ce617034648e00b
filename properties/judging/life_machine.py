"""The same life as rules of a state machine."""

from dataclasses import replace

from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from properties.judging.assertions import Violation
from properties.judging.life import Life
from strategies import Lifecycle, NestedRecipe, Step
from strategies.layers import SEEDS
from strategies.lifecycles import FROZEN, bases, kinds_of_step

# What a fixture of its steps is a fixture of.
LIFE = ("a_life_leaves_every_model_as_it_should_be", "lora")


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
            raise Violation(str(violation), case=self.recipe, of=LIFE) from None

    def teardown(self) -> None:
        if hasattr(self, "life"):
            self.life.close()


for kind, steps in kinds_of_step("lora").items():
    setattr(Machine, kind, rule(step=steps)(Machine.take))
