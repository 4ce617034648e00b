"""Which fixtures add nothing: a simpler one of the same variant fails under every mutant under which they
fail.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from properties.judging.assertions import Violation
from properties.mutation import load_catalogue
from properties.regressions.fixture import Fixture, FixtureError
from properties.regressions.replay import replay


def implied(fixtures: Mapping[Path, Fixture]) -> Iterator[tuple[Path, Path, list[str]]]:
    """A fixture that adds nothing, the one that implies it, and the mutants under which both fail.

    Nothing is known of what a fixture guards that fails under no mutant, or that fails as things stand: it is
    kept, and implies no other.
    """
    fails = {path: _mutants_that_fail(fixture, path) for path, fixture in fixtures.items()}
    kept: list[Path] = []
    for path in sorted(fixtures, key=lambda path: (size(fixtures[path]), path.name)):
        simpler = (
            k for k in kept if fixtures[k].variant == fixtures[path].variant and fails[path] <= fails[k]
        )
        by = next(simpler, None) if fails[path] else None
        if by is None:
            kept.append(path)
        else:
            yield path, by, sorted(fails[path])


def size(fixture: Fixture) -> int:
    """Of the recipe as text: what shrinks gets shorter."""
    return len(str(fixture.recipe))


def _mutants_that_fail(fixture: Fixture, path: Path) -> set[str]:
    if _fails(fixture, path, nullcontext()):
        return set()
    mutants = [mutant for mutant in load_catalogue().values() if fixture.variant in mutant.applies_to]
    return {mutant.name for mutant in mutants if _fails(fixture, path, mutant.injected())}


def _fails(fixture: Fixture, path: Path, circumstances: AbstractContextManager[None]) -> bool:
    """Whether the claim is violated there. A crash is no violation, here as in the matrix."""
    with circumstances:
        try:
            replay(fixture, path)
        except Violation:
            return True
        except FixtureError:
            raise
        except Exception:
            return False
    return False
