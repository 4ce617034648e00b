"""The report of what was measured: gathered (collect), judged (judge), kept as plain data (report), written
(render).
"""

from contextlib import ExitStack

import pytest


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--audit",
        metavar="DIR",
        help="write DIR/index.html, audit.md and audit.json: what was measured, and verdicts",
    )
    group.addoption(
        "--matrix",
        action="store_true",
        help="try every claim under every silent failure, and not each failure to its first kill (long)",
    )
    group.addoption(
        "--matrix-from",
        metavar="FILE",
        help="show the whole matrix that an earlier run wrote (DIR/matrix.json of --matrix --audit DIR)",
    )
    group.addoption(
        "--speed",
        metavar="FILE",
        help="show the figures of python -m properties.speed --json FILE in the audit",
    )
    group.addoption(
        "--online",
        action="store_true",
        help="open every reference too: papers, and files with recorded hashes",
    )
    group.addoption(
        "--mutant",
        metavar="NAME",
        help=(
            "judge with this silent failure on, to see what a red audit looks like; tests of instruments are"
            " deselected"
        ),
    )


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
