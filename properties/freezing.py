"""What was imported is there to stay: the garbage collector need not walk through it again and again.

torch, transformers and peft are half a million objects, and each full collection looks at all of them.
"""

import gc
import sys

import pytest

# So many modules more than at the last time: a package of that size was imported.
MANY = 100
# Tests.
OFTEN = 50


class Freezing:
    """A plugin: after collection, after each test that imported a large package, and now and then, since what
    is kept of each test adds up.
    """

    def __init__(self) -> None:
        self.known = self.tests = 0

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
        self.tests += 1
        if len(sys.modules) > self.known + MANY or self.tests % OFTEN == 0:
            self.freeze()
