"""The named mutants as tables of text: catalogue/*.txt, one row a mutant.

    [module: variants]                     what the rows below it are about, unless they say so themselves
    name: breaks <- models @@ function: before => after
    name (lora, hra; history): ...         other variants than the section's ("all": the built-in ones), and
                                           what Mutant says of it: history, by_chance, elsewhere TEST

A row goes on in indented lines. "@@" begins a change, and may come several times; its function may name
another module ("module:function"). In code ";;" is a new line, indented by what follows after one space;
nothing behind "=>" deletes. Lines before the first section say what the file is about.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from properties.mutation.mutant import Change, Mutant
from properties.mutation.trees import InjectionError
from strategies.options import BUILT_IN

FOLDER = Path(__file__).parent / "catalogue"
ALL = "all"
SECTION = re.compile(r"\[([\w.]+): ([\w, ]+)\]")
ROW = re.compile(r"(\w+)(?: \(([^)]*)\))?: (.+?) <- (.+?) @@ (.+)")
CHANGE = re.compile(r"([\w.]+(?::[\w.]+)?): (.+?) =>(?: (.*))?")
SEVERAL = re.compile(r"(\w+(?:, \w+)+): (\w+)")
FLAGS = ("history", "by_chance")

CATALOGUE: dict[str, Mutant] = {}


def load_catalogue() -> dict[str, Mutant]:
    """Every named mutant, of which each is read once a process."""
    if not CATALOGUE:
        for path in sorted(FOLDER.glob("*.txt")):
            for mutant in read(path.read_text(encoding="utf-8"), path.name):
                if mutant.name in CATALOGUE:
                    raise InjectionError(f"{path.name}: two mutants are called {mutant.name}")
                CATALOGUE[mutant.name] = mutant
    return CATALOGUE


def read(text: str, name: str = "a table") -> Iterator[Mutant]:
    """The mutants of a table. Raises InjectionError, with the line's number, where it is none."""
    section = None
    for number, line in joined(text.splitlines()):
        if line.startswith("["):
            if (section := SECTION.fullmatch(line)) is None:
                raise InjectionError(f"{name}:{number}: wanted [module: variants], found {line!r}")
        elif section is not None and line:
            if (row := ROW.fullmatch(line)) is None:
                wanted = "name: breaks <- models @@ function: before => after"
                raise InjectionError(f"{name}:{number}: wanted {wanted}, found {line!r}")
            yield _mutant(row, section, f"{name}:{number}")


def joined(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Each row in one line, with the number of its first one."""
    row, first = "", 0
    for number, line in enumerate(lines, 1):
        if line.startswith("    "):
            row += " " + line[4:]
        else:
            yield first, row
            row, first = line, number
    yield first, row


def reasons(path: Path) -> Iterator[tuple[str, str, str]]:
    """(section, name, reason) of a table with rows "name <- reason", or "a, b: name <- reason"."""
    section = ""
    for _, line in joined(path.read_text(encoding="utf-8").splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        elif line and section:
            name, _, reason = line.rpartition(" <- ")
            several = SEVERAL.fullmatch(name)
            names = [f"{one}: {several[2]}" for one in several[1].split(", ")] if several else [name]
            yield from ((section, one, reason) for one in names)


def _mutant(row: re.Match[str], section: re.Match[str], where: str) -> Mutant:
    name, about, breaks, models, steps = row.groups()
    module, variants = section.groups()
    flags = dict[str, bool | str]()
    for part in filter(None, re.split("; *", about or "")):
        if part in FLAGS:
            flags[part] = True
        elif part.startswith("elsewhere "):
            flags["elsewhere"] = test = part.removeprefix("elsewhere ")
            flags["equivalent"] = f"to the claims, which run in one process; {test} notices it"
        else:
            variants = part
    # A user's variant has no oracle, without which much of the catalogue cannot be seen.
    applies_to = BUILT_IN if variants == ALL else tuple(variants.split(", "))
    changes = tuple(_change(step, module, where) for step in steps.split(" @@ "))
    return Mutant(name, breaks, models, applies_to, changes, **flags)  # type: ignore[arg-type]  # flags, and a name


def _change(step: str, module: str, where: str) -> Change:
    if (found := CHANGE.fullmatch(step)) is None:
        raise InjectionError(f"{where}: wanted function: before => after, found {step!r}")
    function = found[1] if ":" in found[1] else f"{module}:{found[1]}"
    return Change(function, *(re.sub(" ?;; ?", "\n", code or "") for code in found.group(2, 3)))
