"""A fixture: the shrunk recipe of a failure, what failed and how it was found, as a small JSON file with a
stable name.
"""

import hashlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from properties.judging.place import IN_A_CHECKOUT

HERE = Path(__file__).parent
# Where failures of lora_lite's own variants are kept: with the sources, or where an installed suite runs.
KEPT = HERE if IN_A_CHECKOUT else Path("regressions")
NAMES = "*-*-" + 8 * "[0-9a-f]" + ".json"


class FixtureError(Exception):
    """A fixture that cannot be read or run. Says which file and what to do."""


@dataclass(frozen=True)
class Fixture:
    """Its fields are described in schema.json, beside this file. expect="fail" is a known failure, with a
    reason and a link.
    """

    claim: str
    variant: str
    recipe: dict[str, Any] | str
    error: str
    found: dict[str, Any]
    expect: str = "pass"
    reason: str | None = None
    link: str | None = None
    versions: dict[str, str] = field(default_factory=lambda: versions())

    def digest(self) -> str:
        """8 hex digits of what fails: the same failure has the same name, whoever finds it and with whatever
        versions.
        """
        content = json.dumps([self.claim, self.variant, self.recipe], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:8]

    def name(self) -> str:
        return f"{self.claim}-{self.variant}-{self.digest()}.json"

    def test_id(self) -> str:
        return f"{self.variant}-{self.claim}-{self.digest()}"

    def text(self) -> str:
        """The file's content: one field a line, so that a diff shows what it is."""
        held = {name: value for name, value in asdict(self).items() if value is not None}
        text = json.dumps(held, indent=2, allow_nan=False) + "\n"
        return re.sub(_STRING + r"|\[\n(?:" + _STRING + r'|[^][{}"])*\]', _on_one_line, text)


_STRING = r'"(?:[^"\\]|\\.)*"'


def _on_one_line(found: re.Match[str]) -> str:
    """A list of plain values; strings, which may hold brackets of their own, as they are."""
    if found[0][0] == '"':
        return found[0]
    # A newline inside a string is escaped, so that none of a value's own is touched.
    return "[" + re.sub(r"\n\s*", " ", found[0][1:-1]).strip() + "]"


def versions() -> dict[str, str]:
    """What the failure was seen with."""
    return {
        **{name: _version(name) for name in ("lora_lite", "torch", "hypothesis")},
        "python": platform.python_version(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def read(path: Path) -> Fixture:
    """Raises FixtureError where the file is no fixture, or was edited so that its name no longer fits."""
    held = _parsed(path)
    if (wrong := best_match(schema().iter_errors(held))) is not None:
        where = "/".join(map(str, wrong.absolute_path)) or "the whole"
        raise FixtureError(f"{path}: {where}: {wrong.message}. The schema is {HERE / 'schema.json'}.")
    fixture = Fixture(**held)
    if path.name != fixture.name():
        raise FixtureError(
            f"{path}: its content is that of {fixture.name()}. Rename it, or restore what was edited."
        )
    return fixture


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FixtureError(f"{path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise FixtureError(
            f"{path}: not readable as JSON: {error}. Restore it from version control or delete it."
        ) from error


def paths_in(folder: Path) -> list[Path]:
    """The fixtures in a folder, in the order of their names: every JSON file there, so that none is left out
    for its name.
    """
    return sorted(path for path in folder.glob("*.json") if path != HERE / "schema.json")


@cache
def schema() -> Draft202012Validator:
    return Draft202012Validator(json.loads((HERE / "schema.json").read_text(encoding="utf-8")))


def tensors_of(path: Path) -> Path:
    """Where the exact random numbers of the fixture at `path` lie, if they were recorded."""
    return path.with_suffix(".safetensors")


def write(fixture: Fixture, folder: Path) -> Path:
    """Write the fixture into the folder, whole or not at all.

    One that is there stays as it is, unless it is no JSON.

    What is there may be marked as a known failure, by a hand that has forgotten the link, and two workers may
    find the same failure at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / fixture.name()
    try:
        _parsed(path)
    except FixtureError:
        write_atomically(path, lambda place: place.write_text(fixture.text(), encoding="utf-8"))
    return path


def write_atomically(path: Path, fill: Callable[[Path], object]) -> None:
    """`fill` writes a file beside `path`, which then takes its place: a crash leaves the old file or the new
    one.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    place = Path(name)
    try:
        fill(place)
        place.chmod(0o644)
        with place.open("rb") as file:
            os.fsync(file.fileno())
        place.replace(path)
    finally:
        place.unlink(missing_ok=True)
