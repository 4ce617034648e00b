"""The end of a run tells the same crash once, and all that a claim says each time."""

from types import SimpleNamespace
from typing import Any

import pytest

from properties.folding import folded

pytestmark = pytest.mark.instruments


def report(name: str, line: int, message: str, *, trace: bool = True) -> Any:
    crash = SimpleNamespace(path="mine.py", lineno=line, message=message)
    entries = SimpleNamespace(reprentries=[crash] if trace else [])
    told = SimpleNamespace(reprcrash=crash, reprtraceback=entries)
    return SimpleNamespace(nodeid=name, longrepr=told, sections=[])


def test_equal_crashes_are_one_with_the_names_of_the_others() -> None:
    first, second, third = (report(name, 7, f"TypeError: no\n{name}") for name in "abc")
    elsewhere, other = report("d", 8, "TypeError: no"), report("e", 7, "TypeError: yes")
    assert folded([first, elsewhere, second, other, third]) == [first, elsewhere, other]
    assert first.sections == [("the same crash in 2 more", "b\nc")]
    assert elsewhere.sections == other.sections == []


def test_a_broken_claim_is_told_in_full() -> None:
    broken = [SimpleNamespace(nodeid=name, longrepr="what is off", sections=[]) for name in "ab"]
    traceless = [report(name, 7, "Failed: off", trace=False) for name in "cd"]
    assert folded([*broken, *traceless]) == [*broken, *traceless]  # type: ignore[list-item]  # stand-ins
