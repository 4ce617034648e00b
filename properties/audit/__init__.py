"""The report of what was measured: gathered (collect), judged (judge), kept as plain data (report), written
(render).
"""

from contextlib import ExitStack

import pytest


def start(config: pytest.Config) -> None:
    """Listen to the run, with --mutant on code that is broken on purpose. Raises UsageError for a mutant that
    is not there, and for a file of speed that is not what it should be."""
    from properties.audit.collect import Collector

    if (name := config.getoption("--mutant")) is not None:
        from properties.audit.inject import injected

        stack = ExitStack()
        stack.enter_context(injected(name))
        config.add_cleanup(stack.close)
    config.pluginmanager.register(Collector(config), "lora-lite-audit")
