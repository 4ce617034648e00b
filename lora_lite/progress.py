"""How far calibration and decompositions are, where they take long."""

import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

T = TypeVar("T")

# Seconds without a bar: what is over by then needs none.
QUIET = 2.0


def told(items: Iterable[T], what: str) -> Iterator[T]:
    """The items, one by one; after QUIET seconds with a bar of tqdm's, where that is installed."""
    total = len(items) if isinstance(items, Sized) else None
    begin, bar = time.monotonic(), None
    try:
        for done, item in enumerate(items):
            if bar is not None:
                bar.update()
            elif time.monotonic() - begin > QUIET:
                bar = _bar(what, total, done)
                # Where there is no tqdm it is not looked for again.
                begin = begin if bar is not None else float("inf")
            yield item
        if bar is not None:
            bar.update()
    finally:
        if bar is not None:
            bar.close()


def _bar(what: str, total: int | None, done: int) -> Any:
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError:
        return None
    return tqdm(total=total, initial=done, desc=what, leave=False)
