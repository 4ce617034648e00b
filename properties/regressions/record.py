"""Writes a failure down when pytest reports it, and says where."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from safetensors.torch import save_file

from properties.judging.assertions import Violation
from properties.regressions.fixture import HERE, Fixture, tensors_of, write, write_atomically
from strategies.draws import recorded
from strategies.recipes import RecipeError, to_json

REPLAY = HERE.parent / "claims" / "test_regressions.py"


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--record",
        metavar="DIR",
        type=Path,
        help=(
            "write shrunk failures there, and replay those that are there (default: properties/regressions;"
            " regressions here with --variant-module, artifacts/regressions here where CI is set)"
        ),
    )
    group.addoption("--no-record", action="store_true", help="write no failure down")
    group.addoption("--record-tensors", action="store_true", help="with its exact random numbers, beside it")


def record_folder(config: pytest.Config) -> Path | None:
    """Where failures are written; None for nowhere.

    Unless told where: in CI not among the sources, from which they could not travel; those of a user's own
    module into the user's own folder; and with --mutant nowhere, since a failure that was put in is no
    regression.
    """
    given: Path | None = config.getoption("--record")
    if config.getoption("--no-record") or (given is None and config.getoption("--mutant")):
        return None
    if given is not None:
        return given
    if os.environ.get("CI"):
        return Path("artifacts", "regressions")
    return Path("regressions") if config.getoption("--variant-module") else HERE


def replayed_folders(config: pytest.Config) -> list[Path]:
    """Where the fixtures of a run lie: with the sources, and where it writes its own."""
    own = record_folder(config)
    return [HERE] if own is None or own.resolve() == HERE else [HERE, own]


def record(
    name: str,
    variant: str,
    case: Any,
    error: Exception,
    *,
    folder: Path,
    found: dict[str, Any],
    check: Any = None,
) -> tuple[Fixture, Path]:
    """Write the fixture of a property that failed on `case` with `error`.

    check: the property's, which is run once more so that its random numbers can be written beside the
    fixture; None for the fixture alone. Raises RecipeError where the case is no recipe, and OSError.
    """
    fixture = Fixture(name, variant, to_json(case), summary_of(error), found)
    path = write(fixture, folder)
    if check is not None:
        with recorded() as kept:
            try:
                check(case)
            except Exception as again:
                # It is known to fail; only what it drew until then is of interest.
                del again
        write_atomically(
            tensors_of(path), lambda place: save_file({k: v.contiguous() for k, v in kept.items()}, place)
        )
    return fixture, path


def summary_of(error: Exception) -> str:
    """The first line; of a crash with what it is."""
    line = (str(error).splitlines() or [""])[0]
    return line if isinstance(error, Violation) else f"{type(error).__name__}: {line}"


def last_lines(
    request: pytest.FixtureRequest, name: str, variant: str | None, error: Exception, check: Any
) -> str:
    """Where the failure was written and the command that replays it; without a drawn case, the command that
    runs the test.
    """
    case, folder = getattr(error, "case", None), record_folder(request.config)
    again = replay_command(request.config, request.node.nodeid)
    if case is None or variant is None or folder is None:
        return f"replay   {again}"
    option = request.config.getoption
    found = {
        "test": request.node.nodeid,
        "profile": settings.get_current_profile_name(),
        "seed": option("--hypothesis-seed", None),
        "examples": getattr(error, "examples", None),
        "device": option("--device"),
        "mutant": option("--mutant"),
    }
    try:
        fixture, path = record(
            name,
            variant,
            case,
            error,
            folder=folder,
            found=found,
            check=check if option("--record-tensors") else None,
        )
    except (RecipeError, OSError) as reason:
        return f"written  nowhere: {reason}\nreplay   {again}"
    own = "" if folder.resolve() == HERE else f"--record {folder} "
    replay = replay_command(
        request.config, f"{_from_here(REPLAY)}::test_regressions[{fixture.test_id()}]", own
    )
    return f"written  {_from_here(path)}\nreplay   {replay}"


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def replay_command(config: pytest.Config, nodeid: str, also: str = "") -> str:
    """What runs the test again, with the options that it depends on."""
    option = config.getoption
    modules = "".join(f"--variant-module {module} " for module in option("--variant-module") or ())
    budget = "" if option("--max-examples") is None or also else f"--max-examples {option('--max-examples')} "
    place = "" if option("--device") == "cpu" else f"--device {option('--device')} "
    fault = "" if option("--mutant") is None else f"--mutant {option('--mutant')} "
    return f'pytest {modules}{budget}{place}{fault}{also}"{nodeid}"'
