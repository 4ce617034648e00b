"""python -m properties.audit.picture SUBJECTS.JSON [...] --into FILE.svg: libraries by claims.

Each file is one of `pytest properties --subject NAME --audit DIR`. A cell: on how many of a library's methods
the claim broke, of those that it was judged on. Colours follow the reader's light or dark scheme.
"""

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from properties.judging.outcome import BROKEN, CRASHED, HELD
from properties.subjects.living import LIBRARIES, library


@dataclass(frozen=True)
class Cell:
    """Of one library's methods, those that a claim was judged on, and on how many of them it broke."""

    judged: int
    broken: int


@dataclass(frozen=True)
class Column:
    """One library, and how many of its methods were judged: a setting away from its default counts as one."""

    library: str
    version: str
    methods: int


@dataclass(frozen=True)
class Picture:
    """rows: of each claim that broke anywhere a cell a library, those first that broke most often.

    claims: how many there are; broken: on how many of them some method broke.
    """

    columns: list[Column]
    rows: dict[str, list[Cell]]
    claims: int
    broken: int


def picture_of(fields: list[dict[str, Any]], rows: int = 24) -> Picture:
    """What the tables of one or more runs come to, so many rows of it.

    Raises ValueError where two have one method.
    """
    judged = [row for field in fields for row in field["rows"]]
    if twice := sorted(name for name, n in Counter(row["method"] for row in judged).items() if n > 1):
        raise ValueError(f"{', '.join(twice)}: in more than one of the files, wanted each method once")
    methods = Counter(_library(row) for row in judged)
    names = [name for name in LIBRARIES if name in methods]
    states = Counter((o["claim"], _library(row), o["state"]) for row in judged for o in row["outcomes"])

    def cell(claim: str, name: str) -> Cell:
        broken = sum(states[claim, name, state] for state in (BROKEN, CRASHED))
        return Cell(broken + states[claim, name, HELD], broken)

    cells = {claim: [cell(claim, name) for name in names] for field in fields for claim in field["claims"]}
    often = {claim: sum(one.broken for one in row) for claim, row in cells.items()}
    ordered = sorted((claim for claim in cells if often[claim]), key=lambda claim: -often[claim])
    versions = {package: told for field in fields for package, told in field["versions"].items()}
    columns = [Column(name, versions[library(name).package], methods[name]) for name in names]
    shown = {claim: cells[claim] for claim in ordered[:rows]}
    return Picture(columns, shown, len(cells), len(ordered))


def _library(row: dict[str, Any]) -> str:
    return str(row["method"]).partition(":")[0]


def drawn(picture: Picture) -> str:
    """The picture as SVG, 800 wide."""
    environment = Environment(
        loader=PackageLoader("properties.audit"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("picture.svg.j2").render(picture=picture) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m properties.audit.picture", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="SUBJECTS.JSON")
    parser.add_argument("--into", type=Path, required=True, metavar="FILE.svg")
    given = parser.parse_args()
    try:
        fields = [json.loads(file.read_text(encoding="utf-8")) for file in given.files]
        given.into.write_text(drawn(picture_of(fields)), encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(
            f"{type(error).__name__}: {error}. Wanted subjects.json of pytest --subject NAME --audit DIR"
        )


if __name__ == "__main__":
    main()
