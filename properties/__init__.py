"""What must hold of every adapter, and the machinery that proves that the checks can see."""

import sys
from pathlib import Path


class Asked(str):
    """The name of the plugin, which pytest imports, with what a conftest.py asks of it."""

    folder: Path
    modules: tuple[str, ...]


def tests_of(*modules: str) -> str:
    """In a conftest.py: the claims about variants of one's own become tests of its folder.

        from properties import tests_of

        pytest_plugins = tests_of("mine")

    modules: those that register the variants, beside the conftest.py or wherever Python finds them. Raises
    pytest.UsageError where there is a package by the name of one of ours.
    """
    from lora_lite_pytest import refuse_namesakes

    asked = Asked("properties.plugin")
    asked.folder = Path(sys._getframe(1).f_globals["__file__"]).parent
    asked.modules = modules
    refuse_namesakes(asked.folder)
    return asked
