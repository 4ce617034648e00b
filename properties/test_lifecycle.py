"""Whatever is done with a model and its adapters, in whatever order: each is what it should be after every step."""

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from properties.assertions import Violation
from properties.lifecycle import Life, live
from properties.mutants import load_catalogue
from properties.mutants.matrix import budget, run_cell
from properties.observe import has_oracle
from properties.registry import every_variant, load_properties, told
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


# At most so many; most mutants show in the first ten.
LIVES = 300
# What has to happen in a life, attach and train aside, before it shows.
SHOWN_BY = {
    "detach_forgets_what_the_user_thawed": ("freeze", "detach"),
    "detach_keeps_old_flags_for_the_next_adapter": ("freeze", "detach"),
    "attach_freezes_a_parameter_once": ("freeze",),
    "detach_strikes_the_newest_off_the_list": ("detach_one",),
    "detach_clears_every_hook_of_its_layers": ("hook", "detach"),
    "a_handle_comes_alive_with_the_next_adapter": ("detach_one",),
    "overlap_looked_for_on_the_first_layer": ("attach_other", "detach"),
    "handles_of_a_copy_act_on_the_original": ("copy", "detach_one"),
    "save_puts_the_model_in_eval_mode": ("save",),
    "save_casts_the_live_adapter": ("save",),
    "save_takes_the_adapter_off": ("save",),
    "load_puts_the_model_in_eval_mode": ("load",),
    "load_installs_one_adapter_after_the_other": ("save", "load"),
    "load_thaws_the_base": ("load",),
    "a_loaded_adapter_never_learns": ("load",),
    "merge_leaves_the_base_frozen": ("merge",),
    "merge_replaces_the_parameter": ("freeze", "merge"),
    "merge_folds_one_adapter_and_drops_the_others": ("merge",),
    "frozen_tensors_are_not_in_the_state_dict": ("load",),
    "frozen_tensors_are_plain_attributes": ("cast",),
}


@pytest.mark.instruments
def test_every_mutant_of_a_life_is_to_be_shown_by_one() -> None:
    assert set(SHOWN_BY) == {name for name, mutant in load_catalogue().items() if mutant.history}


@pytest.mark.mutation
@pytest.mark.parametrize("mutant", SHOWN_BY)
def test_a_life_shows_what_needs_a_history(mutant: str) -> None:
    """The state machine itself, whatever else may kill the mutant; on the first of its variants."""
    made = load_properties()["a_life_leaves_every_model_as_it_should_be"]
    narrow = replace(made, cases=partial(lifecycles, chosen=SHOWN_BY[mutant]), share=1.0)
    known = load_catalogue()[mutant]
    cell = run_cell(narrow, known, known.applies_to[0], budget(LIVES, shrink=False))
    assert cell.outcome == "killed", f"{cell.outcome} in {LIVES} lives of {SHOWN_BY[mutant]}: {cell.detail}"


@pytest.mark.slow
def test_the_machine_finds_nothing_wrong_in_fifty_steps(request: pytest.FixtureRequest) -> None:
    """A run is fifty steps long: a tenth of the examples will do. Steps that fail are written down as a life of lora."""
    runs = max(1, settings().max_examples // 10)
    with told("a_life_leaves_every_model_as_it_should_be", "lora", request):
        run_state_machine_as_test(Machine, settings=settings(max_examples=runs, stateful_step_count=50))
