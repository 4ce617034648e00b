"""The state machine itself shows every failure that needs a history, whatever else may catch it."""

from dataclasses import replace
from functools import partial

import pytest

from properties.judging.claim import load_claims
from properties.mutation import load_catalogue
from properties.mutation.matrix import run_cell
from properties.mutation.reach import budget
from strategies import lifecycles

pytestmark = pytest.mark.instruments

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


def test_every_mutant_of_a_life_is_to_be_shown_by_one() -> None:
    assert set(SHOWN_BY) == {name for name, mutant in load_catalogue().items() if mutant.history}


@pytest.mark.mutation
@pytest.mark.parametrize("mutant", SHOWN_BY)
def test_a_life_shows_what_needs_a_history(mutant: str) -> None:
    """The state machine itself, whatever else may kill the mutant; on the first of its variants."""
    made = load_claims()["a_life_leaves_every_model_as_it_should_be"]
    narrow = replace(made, cases=partial(lifecycles, chosen=SHOWN_BY[mutant]), share=1.0)
    known = load_catalogue()[mutant]
    cell = run_cell(narrow, known, known.applies_to[0], budget(LIVES, shrink=False))
    assert cell.outcome == "killed", f"{cell.outcome} in {LIVES} lives of {SHOWN_BY[mutant]}: {cell.detail}"
