"""Recipes of interrupts: what is being done, at which of its lines it is stopped, and by what."""

from dataclasses import dataclass

from hypothesis import strategies as st

# What changes a model, or reads it for a file. "second": attach where another layer carries an adapter.
OPERATIONS = ("attach", "second", "load", "merge", "detach", "detach one", "save")
ERRORS = (KeyboardInterrupt, MemoryError, RuntimeError)
MOST = 10**4
# Of the last lines, on which a model changes: the many before them only prepare it.
LAST = 40


@dataclass(frozen=True)
class Interrupt:
    """One of ERRORS, by its name, at a line of lora_lite that the operation runs: `at`, modulo how many there
    are; negative ones count from the end.
    """

    variant: str
    operation: str
    at: int
    error: str = "KeyboardInterrupt"

    @property
    def kind(self) -> type[BaseException]:
        return next(kind for kind in ERRORS if kind.__name__ == self.error)


def interrupts(variant: str) -> st.SearchStrategy[Interrupt]:
    """Shrinks towards Ctrl-C at the first line of attach."""
    return st.builds(
        Interrupt,
        st.just(variant),
        st.sampled_from(OPERATIONS),
        st.one_of(st.integers(0, MOST), st.integers(-LAST, -1)),
        st.sampled_from([kind.__name__ for kind in ERRORS]),
    )
