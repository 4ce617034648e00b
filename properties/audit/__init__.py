"""The report of what was measured: gathered (collect), judged (judge), kept as plain data (report), written (render)."""

from contextlib import ExitStack
from pathlib import Path

import pytest


def start(config: pytest.Config) -> None:
    """Listen to the run, with --mutant on code that is broken on purpose. Raises UsageError for a mutant or a
    file that is not there."""
    from properties.audit.collect import Collector

    if (name := config.getoption("--mutant")) is not None:
        from properties.audit.inject import injected

        stack = ExitStack()
        stack.enter_context(injected(name))
        config.add_cleanup(stack.close)
    if (speed := config.getoption("--speed")) is not None and not Path(speed).is_file():
        raise pytest.UsageError(f"--speed {speed}: no such file. Write it with python -m properties.speed --json {speed}")
    config.pluginmanager.register(Collector(config), "lora-lite-audit")
