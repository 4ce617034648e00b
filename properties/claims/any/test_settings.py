"""What a method takes for a setting makes a difference."""

from hypothesis import strategies as st

from properties.judging.assertions import assert_holds
from properties.judging.claim import ANY, claim
from properties.judging.settings_seen import unseen
from properties.subjects.bindings import binding_of
from properties.subjects.library import LibraryCase
from strategies import LinearRecipe


def itself(method: str) -> st.SearchStrategy[LibraryCase]:
    """Two square layers: the settings that are tried are the method's, and its switches'."""
    return st.just(LibraryCase(method, LinearRecipe(8, 8, True), depth=2))


@claim(itself, stage="attach", subject=ANY)
def test_every_setting_matters(case: LibraryCase) -> None:
    """Some change of it, with one switch of the others at most, is seen in something, or is refused.

    What has no effect by its documentation, its binding says, with the reason.
    """
    binding = binding_of(case.method)
    idle = unseen(case, excused={} if binding is None else binding.inert)
    assert_holds(not idle, claim=f"nothing changes with {', '.join(idle)}")
