"""pytest's way in to the suite of lora-lite.

A run that asks for nothing of it pays for this file alone: the options are those of properties/plugin.py, and
that is imported, with torch, where the suite is asked for.
"""

from collections.abc import Generator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from _pytest.config import ConftestImportFailure

HERE = Path(__file__).resolve().parent
NAMES = ("properties", "strategies")


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, args: Sequence[str]
) -> Generator[None, None, None]:
    """Where a run asks for the suite, its options are known before those of the user's conftest.py.

    A conftest.py may ask for it too, see properties.tests_of.
    """
    if asked_for(args):
        refuse_namesakes(early_config.invocation_params.dir)
        early_config.pluginmanager.import_plugin("properties.plugin")
    try:
        return (yield)
    except ConftestImportFailure as failure:
        if isinstance(failure.cause, pytest.UsageError):
            raise failure.cause from None
        if "tests_of" in str(failure.cause):
            refuse_namesakes(failure.path.parent)
        raise


def asked_for(args: Sequence[str]) -> bool:
    """Whether it is the suite that is to run, or a module's variants that are to be judged."""
    ours = any(arg.partition("::")[0].partition(".")[0] == "properties" for arg in args)
    return (ours and "--pyargs" in args) or any(arg.startswith("--variant-module") for arg in args)


def refuse_namesakes(folder: Path) -> None:
    """Raises UsageError where another package has the name of one of ours, in this folder or on sys.path.

    What is imported by that name would be the one or the other.
    """
    there = (folder / f"{name}{end}" for name in NAMES for end in ("", ".py"))
    found = [path for path in there if path.exists() and path.parent.resolve() != HERE]
    for name in NAMES:
        spec = find_spec(name)
        if spec is not None and spec.origin and Path(spec.origin).resolve().parents[1] != HERE:
            found.append(Path(spec.origin))
    if found:
        raise pytest.UsageError(
            f"found {found[0]}, wanted {HERE / found[0].stem} alone by that name: one is taken for the other."
            " Rename yours, or judge your variant in a folder without it."
        )
