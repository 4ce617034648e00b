"""Writes a failure down when pytest reports it, and says where."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from safetensors.torch import save_file

from properties.judging.assertions import Violation
from properties.judging.claim import ANY, CLAIMS, Claim
from properties.judging.place import IN_A_CHECKOUT
from properties.judging.under_pytest import Kept
from properties.regressions.fixture import HERE, KEPT, Fixture, tensors_of, write, write_atomically
from strategies.random_numbers import recorded
from strategies.recipes import RecipeError, to_json

# The modules that each folder's conftest.py asked for, which properties/guests.py puts here.
ASKED = pytest.StashKey[dict[Path, tuple[str, ...]]]()


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--record",
        metavar="DIR",
        type=Path,
        help=(
            "write shrunk failures there, and replay those that are there (default: regressions here; in the"
            " repository properties/regressions without --variant-module; artifacts/regressions here where CI"
            " is set)"
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
    return Path("artifacts", "regressions") if os.environ.get("CI") else _committed(config)


def _committed(config: pytest.Config) -> Path:
    """Where those lie that whoever runs this keeps."""
    return Path("regressions") if config.getoption("--variant-module") else KEPT


def replayed_folders(config: pytest.Config) -> list[Path]:
    """Where the fixtures of a run lie: with the sources, with the user's, and where it writes new ones."""
    folders = (HERE, _committed(config), record_folder(config))
    return list({folder.resolve(): folder for folder in folders if folder is not None}.values())


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
    """Write the fixture of a claim that failed on `case` with `error`.

    check: the claim's, which is run once more so that its random numbers can be written beside the
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


def keep(request: pytest.FixtureRequest, claim: Claim, variant: str | None, error: Exception) -> Kept:
    """Write the failure down, and say where and how to replay it; without a drawn case, how to run the test
    again.

    A slow claim is its own replay: as a fixture it would be run a second time in every run. What is not
    written yet is no failure to remember. A fault of another library is a finding (properties/findings), and
    no regression of this one.
    """
    return kept(request.config, request.node.nodeid, claim, variant, error)


def kept(config: pytest.Config, nodeid: str, claim: Claim, variant: str | None, error: Exception) -> Kept:
    """As keep, of the test with this id."""
    again = replay_command(config, nodeid)
    name, variant = getattr(error, "of", None) or (claim.name, variant)
    case, folder = getattr(error, "case", None), record_folder(config)
    unkept = claim.subject == ANY or claim.early or (claim.slow and name == claim.name)
    if case is None or variant is None or folder is None or unkept:
        return Kept("", again)
    option = config.getoption
    found = {
        "test": nodeid,
        "profile": settings.get_current_profile_name(),
        "seed": option("--hypothesis-seed", None),
        "examples": getattr(error, "examples", None),
        "device": option("--device"),
        "mutant": option("--mutant"),
    }
    check = claim.check if option("--record-tensors") and name == claim.name else None
    try:
        fixture, path = record(name, variant, case, error, folder=folder, found=found, check=check)
    except (RecipeError, OSError) as reason:
        return Kept(f"nowhere: {reason}", again)
    also = [] if folder.resolve() == HERE else [f"--record {folder}"]
    return Kept(str(_from_here(path)), replay_command(config, f"-k {fixture.test_id()}", also))


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def replay_command(config: pytest.Config, chosen: str, fixture: Sequence[str] | None = None) -> str:
    """What runs a test again, with all that its outcome depends on, as it can be pasted where this run began.

    chosen: the test's id, or what selects it. fixture: further options of one that replays a fixture, whose
    case is given; None for one that draws, which depends on seed, profile and budget too.
    """
    option = config.getoption
    modules = option("--variant-module") or ()
    folders = [] if fixture is None else _folders(config)
    if folders:
        # Their conftest.py names them, and makes them importable.
        modules = [m for m in modules if all(m not in asked for asked in config.stash[ASKED].values())]
    words = [f"PYTHONPATH={path}"] if modules and (path := os.environ.get("PYTHONPATH")) else []
    words += ["pytest"]
    words += ["-p properties.plugin"] if "properties.plugin" in (config.option.plugins or ()) else []
    words += [f"--variant-module {module}" for module in modules]
    words += [f"--subject {name}" for name in option("--subject") or ()]
    words += [f"--device {option('--device')}"] if option("--device") != "cpu" else []
    words += [f"--mutant {option('--mutant')}"] if option("--mutant") is not None else []
    if fixture is not None:
        where = folders or ([] if IN_A_CHECKOUT else ["--pyargs properties"])
        return " ".join([*words, *(where if where != ["."] else []), *fixture, chosen])
    profile, seed = option("--hypothesis-profile", None), option("--hypothesis-seed", None)
    profile = profile or ("ci" if os.environ.get("CI") else None)
    words += [f"--hypothesis-profile {profile}"] if profile else []
    words += [f"--hypothesis-seed {seed}"] if seed is not None else []
    examples = option("--max-examples")
    words += [f"--max-examples {examples}"] if examples is not None else []
    return " ".join([*words, _from_invocation(config, chosen)])


def _folders(config: pytest.Config) -> list[str]:
    """Of each conftest.py that asked for the claims, as pytest takes it where this run began.

    Without its name pytest would come upon a folder's conftest.py below, which is too late for a plugin.
    """
    start = config.invocation_params.dir
    asked = config.stash.get(ASKED, {})
    folders = [Path(os.path.relpath(folder.resolve(), start.resolve())) for folder in asked]
    return [shlex.quote(folder.as_posix()) for folder in dict.fromkeys(folders)]


def _from_invocation(config: pytest.Config, nodeid: str) -> str:
    """The id as pytest takes it in the folder that this run was started in."""
    file, colons, test = nodeid.partition("::")
    path = config.rootpath / file
    if module := _installed_module(test, path):
        return f'--pyargs "{module}{colons}{test}"'
    return f'"{Path(os.path.relpath(path, config.invocation_params.dir)).as_posix()}{colons}{test}"'


def _installed_module(test: str, path: Path) -> str | None:
    """Where a test of an installed suite is; None for a test of the user's.

    Outside of its own folder, pytest has a test's file in its id only as far as it was not asked for.
    """
    if path.is_file():
        return None
    name = test.partition("[")[0].removeprefix("test_")
    found = CLAIMS.get(name)
    return "properties.claims.test_regressions" if found is None else found.check.__module__
