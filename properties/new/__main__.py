"""python -m properties.new vera --into my_adapters: a variant, its oracle and a conftest.py to fill in."""

import argparse
import sys
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from string import Template

from lora_lite import VARIANTS
from lora_lite_pytest import NAMES

TEMPLATES = Path(__file__).parent
OURS = [name for name, variant in VARIANTS.items() if variant.__module__.startswith("lora_lite.")]


def texts(name: str) -> dict[str, str]:
    """What is written, by the name of its file."""
    kind = name.title().replace("_", "")
    files = {"variant": f"{name}.py", "oracle": f"{name}_oracle.py", "conftest": "conftest.py"}
    return {
        file: Template((TEMPLATES / f"{part}.txt").read_text("utf-8")).substitute(name=name, kind=kind)
        for part, file in files.items()
    }


def write(name: str, folder: Path) -> list[str]:
    """What is to be told, the variant and its oracle written. A conftest.py that is there stays as it is.

    Raises ValueError for a name that cannot be a module's, or is one's or a variant's already; for a folder
    that has such a file, or the name of a package of ours.
    """
    if not name.isidentifier() or iskeyword(name) or name != name.lower():
        raise ValueError(f"found the name {name!r}, wanted one in lower case that Python can import.")
    if name in OURS:
        raise ValueError(f"found the name {name!r}, which a variant of lora-lite has, wanted one of its own.")
    if folder.resolve().name in NAMES:
        raise ValueError(f"found the folder {folder}, wanted one that has no package's name of lora-lite.")
    made = texts(name)
    if there := [file for file in made if file != "conftest.py" and (folder / file).exists()]:
        raise ValueError(f"found {folder / there[0]}, wanted no such file: nothing is written over.")
    if (known := find_spec(name)) is not None:
        raise ValueError(f"found a module {name} ({known.origin}), wanted a name that is none's.")
    folder.mkdir(parents=True, exist_ok=True)
    told = []
    for file, text in made.items():
        if (folder / file).exists():
            told.append(f"{folder / file} is there: give its tests_of {name!r} and '{name}_oracle' too")
        else:
            (folder / file).write_text(text, encoding="utf-8")
            told.append(f"wrote {folder / file}")
    return [*told, f"pytest {folder}   # tells what is to be filled in, then judges it"]


def main(arguments: list[str] | None = None) -> int:
    """0 where it was written, 2 where it cannot be."""
    parser = argparse.ArgumentParser(prog="python -m properties.new", description=__doc__)
    parser.add_argument("name", help="of the variant, and of its module")
    parser.add_argument("--into", type=Path, default=Path(), metavar="DIR", help="default: here")
    given = parser.parse_args(arguments)
    try:
        print("\n".join(write(given.name, given.into)))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
