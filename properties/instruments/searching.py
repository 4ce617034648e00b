"""Finds what a strategy shrinks to."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

QUIET = settings(
    database=None, deadline=None, max_examples=2000, phases=[Phase.generate, Phase.shrink], derandomize=True
)


def minimal(strategy: st.SearchStrategy[Any], holds: Callable[[Any], bool] = lambda drawn: True) -> Any:
    """What the strategy shrinks to among the draws for which `holds`; fails where there is none."""
    try:
        return find(strategy, holds, settings=QUIET)
    except NoSuchExample:
        pytest.fail("no draw in 2000 satisfies the condition")
