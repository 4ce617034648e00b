"""What drawing left at its first value: with few examples a setting may have had no other in any of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from hypothesis import strategies as st

from properties.subjects.library import LibraryCase
from properties.subjects.living import method_of

Cases = Callable[[str], st.SearchStrategy[LibraryCase]]


def left_out(method: str, judged: Sequence[LibraryCase]) -> Iterator[Cases]:
    """Judged cases with such a setting at another value, one each; and the next value of it while `judged`,
    to which the caller adds what is not refused, has none. At most half as many as were drawn.
    """
    drawn, found = list(judged), method_of(method)
    first, tries = dict(found.simplest or ()), 0
    values = [[(name, given) for given in some] for name, some in found.apart.items()]
    # One value of each before another of any: it may be refused whatever it is set to.
    for turn in zip_longest(*values):
        for name, given in filter(None, turn):
            if tries < len(drawn) // 2 and all(_same(case, name, first) for case in judged):
                tries += 1
                yield _only(replace(drawn[-tries], settings=given))


def _same(case: LibraryCase, name: str, first: dict[str, object]) -> bool:
    given = dict(case.settings)
    return (name in given) == (name in first) and given.get(name) == first.get(name)


def _only(case: LibraryCase) -> Cases:
    return lambda method: st.just(case)
