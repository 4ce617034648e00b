"""What was imported is there to stay: the garbage collector need not walk through it again and again.

torch, transformers and peft are half a million objects, and each full collection looks at all of them.
"""

import gc
import sys

import pytest

# So many modules more than at the last time: a package of that size was imported.
MANY = 100


class Freezing:
    """A plugin: after collection, and after each test that imported a large package."""

    def __init__(self) -> None:
        self.known = 0

    def freeze(self) -> None:
        # Garbage that is frozen is never cleared away.
        gc.collect()
        gc.freeze()
        self.known = len(sys.modules)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self) -> None:
        self.freeze()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        if len(sys.modules) > self.known + MANY:
            self.freeze()
