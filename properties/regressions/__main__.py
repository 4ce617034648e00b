"""python -m properties.regressions: adopt fixtures from an artifact, list them, prune those that add nothing,
show one.
"""

import argparse
import shutil
import sys
from functools import partial
from pathlib import Path

from properties.judging.assertions import Violation
from properties.regressions.fixture import (
    KEPT,
    NAMES,
    Fixture,
    FixtureError,
    paths_in,
    read,
    tensors_of,
    write_atomically,
)
from properties.regressions.prune import implied
from properties.regressions.record import summary_of
from properties.regressions.replay import replay
from properties.subjects.users import import_variants
from strategies.recipes import from_json, pasteable


def adopt(source: Path, into: Path) -> list[Path]:
    """Copy fixtures that `into` does not have, with their tensors, from a folder and below, where other files
    may lie too.

    Raises FixtureError before anything is copied.
    """
    found = sorted(source.rglob(NAMES))
    if not found:
        raise FixtureError(
            f"{source}: no {NAMES} in it. Download the artifact and name the folder that it was unpacked to."
        )
    for path in found:
        read(path)
    # Of the same failure from several shards the one with tensors.
    found.sort(key=lambda path: tensors_of(path).exists())
    new = {into / path.name: path for path in found if not (into / path.name).exists()}
    into.mkdir(parents=True, exist_ok=True)
    for place, path in new.items():
        # The tensors first: a fixture without them would be taken for whole.
        for source_file, file in ((tensors_of(path), tensors_of(place)), (path, place)):
            if source_file.exists():
                write_atomically(file, partial(shutil.copyfile, source_file))
    return list(new)


def table(folder: Path) -> tuple[str, bool]:
    """One line a fixture: what it expects, and what it gives now; and whether each gives what it expects."""
    lines, as_expected = [], True
    for path in paths_in(folder):
        try:
            fixture = read(path)
            failure = _failure(fixture, path)
            now = "passes now" if failure is None else f"fails now: {failure}"
            lines.append(f"{path.name}: expected to {fixture.expect}, {now}")
            as_expected &= (failure is None) == (fixture.expect == "pass")
        except FixtureError as error:
            lines.append(f"{path.name}: cannot be run: {error}")
            as_expected = False
    return "\n".join(lines) or f"{folder} holds no fixture.", as_expected


def _failure(fixture: Fixture, path: Path) -> str | None:
    """How it fails, in one line; None where it passes."""
    try:
        replay(fixture, path)
    except FixtureError:
        raise
    except Exception as error:
        return summary_of(error)
    return None


def prune(folder: Path, *, remove: bool) -> str:
    """Take the fixtures away that a simpler one implies, or only name them."""
    lines = []
    for path, simpler, mutants in implied({path: read(path) for path in paths_in(folder)}):
        lines.append(f"{path.name}: {simpler.name} is simpler and fails too under {', '.join(mutants)}")
        if remove:
            tensors_of(path).unlink(missing_ok=True)
            path.unlink()
    return "\n".join(lines) or "Every fixture is needed."


def show(path: Path) -> str:
    """The recipe, as Python to paste, and what it gives now. Raises what its claim raises."""
    fixture = read(path)
    text = (
        f"{fixture.claim} [{fixture.variant}], expected to {fixture.expect}\nrecipe  "
        f" {pasteable(from_json(fixture.recipe))}"
    )
    print(text, flush=True)
    replay(fixture, path)
    return "It holds."


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m properties.regressions", description=__doc__)
    parser.add_argument(
        "--variant-module", action="append", default=[], metavar="MODULE", help="import it first (repeatable)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    kept = argparse.ArgumentParser(add_help=False)
    kept.add_argument(
        "--into",
        type=Path,
        default=KEPT,
        metavar="DIR",
        help="where fixtures are kept (default: %(default)s)",
    )
    commands.add_parser("adopt", parents=[kept], help="copy new fixtures from a folder").add_argument(
        "dir", type=Path
    )
    commands.add_parser(
        "list",
        parents=[kept],
        help="all fixtures, and what they give now; exit code 1 where one gives not what it expects",
    )
    pruning = commands.add_parser(
        "prune", parents=[kept], help="delete those that a simpler one implies (runs the mutants)"
    )
    pruning.add_argument("--dry-run", action="store_true", help="only name them")
    commands.add_parser("show", help="print a fixture's recipe and run it").add_argument("file", type=Path)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0 where all went well, 1 where the shown fixture fails or a listed one gives not what it expects, 2 for
    no fixture.
    """
    given = _arguments().parse_args(arguments)
    try:
        for module in given.variant_module:
            import_variants(module)
        if given.command == "adopt":
            print("\n".join(map(str, adopt(given.dir, given.into))) or "Nothing new.")
        elif given.command == "list":
            text, as_expected = table(given.into)
            print(text)
            return 0 if as_expected else 1
        elif given.command == "prune":
            print(prune(given.into, remove=not given.dry_run))
        else:
            print(show(given.file))
    except (FixtureError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    except Violation as violation:
        print(violation)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
