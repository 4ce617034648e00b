"""The report of what was measured: gathered (collect), judged (judge), kept as plain data (report), written
(render).
"""

from contextlib import ExitStack

import pytest


def start(config: pytest.Config) -> None:
    """Listen to the run, with --mutant on code that is broken on purpose. Raises UsageError for a mutant that
    is not there or is about other variants, and for a file of speed that is not what it should be."""
    from properties.audit.collect import Collector

    if (name := config.getoption("--mutant")) is not None:
        from properties.audit.inject import injected

        stack = ExitStack()
        mutant = stack.enter_context(injected(name))
        asked = config.getoption("--variant")
        if asked and not {*asked} & {*mutant.applies_to}:
            stack.close()
            raise pytest.UsageError(
                f"--mutant {name} shows on {', '.join(mutant.applies_to)}, and --variant asks for"
                f" {', '.join(asked)} alone."
            )
        config.add_cleanup(stack.close)
    config.pluginmanager.register(Collector(config), "lora-lite-audit")
