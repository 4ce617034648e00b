"""What is kept of a claim that fails: the minimal case, its error, and whether it fails each time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from hypothesis.errors import Flaky

from properties.judging.assertions import Violation

AT_TIMES = "At times: tried again, the same case holds. What it runs is not deterministic."

Watch = Callable[[], AbstractContextManager[None]]
_watching: list[Watch] = []


@contextmanager
def failing_again(watch: Watch) -> Iterator[None]:
    """While the body runs, the smallest failing case of a claim runs once more, inside of `watch()`.

    A tracer wants its lines apart from those of all the cases that were tried on the way to it.
    """
    _watching.append(watch)
    try:
        yield
    finally:
        _watching.remove(watch)


def watching() -> Sequence[Watch]:
    """Those that are asked for now."""
    return _watching


# So many tries make a failing case of another library smaller.
SHRINKS = 60


@dataclass
class Failing:
    """Hypothesis runs the minimal case last; the first failing one is what it took to find it."""

    case: Any = None
    error: Exception | None = None
    examples: int = 0
    shrinking: int = 0

    def small_enough(self, case: Any) -> bool:
        """Whether enough was tried to make a failing case smaller: from then on it alone fails. A library may
        have hundreds of them.
        """
        self.shrinking += self.error is not None
        return self.shrinking > SHRINKS and case != self.case

    def keep(self, case: Any, error: Exception, examples: int) -> None:
        self.case, self.error, self.examples = case, error, self.examples or examples

    def failure(self, ended: Exception) -> Exception | None:
        """The failure, with its case, where what the run ended with is one."""
        error, flaky = self.error, isinstance(ended, Flaky)
        if error is None or not (error is ended or flaky):
            return None
        if isinstance(error, Violation):
            text = f"{error}\n{AT_TIMES}" if flaky else str(error)
            return Violation(text, tensor=error.tensor, case=self.case, examples=self.examples)
        if flaky:
            error.add_note(AT_TIMES)
        # Read where the failure is recorded.
        error.case = self.case  # type: ignore[attr-defined]
        return error
