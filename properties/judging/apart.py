"""What drawing left at its first value: with few examples a setting may have had no other in any of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from hypothesis import strategies as st

from properties.subjects.library import LibraryCase, Settings
from properties.subjects.living import method_of

Cases = Callable[[str], st.SearchStrategy[LibraryCase]]


def left_out(method: str, judged: Sequence[LibraryCase]) -> Iterator[Cases]:
    """Judged cases with one setting at its second value, where none has it; and at a further one while
    `judged`, to which the caller adds what is not refused, has none. At most half as many as were drawn.

    Any other value will not do: of a layer of 32 blocks of three are blocks of two.
    """
    drawn, found = list(judged), method_of(method)
    tries, done = 0, set[str]()
    values = [[(name, given) for given in some] for name, some in found.apart.items()]
    # One value of each before another of any: it may be refused whatever it is set to.
    for turn in zip_longest(*values):
        for name, given in filter(None, turn):
            if tries < len(drawn) // 2 and name not in done and not _any_has(judged, name, given):
                tries += 1
                yield _only(replace(drawn[-tries], settings=given))
            if _any_has(judged, name, given):
                done.add(name)


def _any_has(judged: Sequence[LibraryCase], name: str, given: Settings) -> bool:
    """The setting at the value that it has there."""
    wanted = [value for value in given if value[0] == name]
    return any([value for value in case.settings if value[0] == name] == wanted for case in judged)


def _only(case: LibraryCase) -> Cases:
    return lambda method: st.just(case)
