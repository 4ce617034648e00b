"""python -m properties.audit merge DIR [DIR ...] --into DIR: one audit of what many machines judged.
python -m properties.audit methods: the reference table of all formulas.

Each DIR is what pytest properties --audit DIR wrote. Outcomes are united: what broke in one run is broken,
what held is held where none broke it, what no run judged stays not judged. Versions and seeds of each are
told.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from properties.regressions.fixture import write_atomically
from properties.subjects.living import LIBRARIES
from properties.subjects.users import import_variants


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m properties.audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(dest="command", required=True)
    merging = commands.add_parser("merge", help="one audit of the records of several")
    merging.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    merging.add_argument("--into", type=Path, required=True, metavar="DIR", help="empty, or not there yet")
    merging.add_argument(
        "--subject",
        action="append",
        default=[],
        choices=sorted(LIBRARIES),
        help="a library that should be among them (repeatable); of one that is not, no method is judged",
    )
    merging.add_argument("--variant-module", action="append", default=[], metavar="MODULE")
    merging.set_defaults(run=_merge)
    table = commands.add_parser("methods", help="write the reference table: formulas, tensors, settings")
    table.add_argument("--into", type=Path, metavar="FILE", help="default: properties/methods.md")
    table.set_defaults(run=_methods)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all is there. 1: written, and a part is lost or a verdict is BUGGY. 2: refused, nothing written."""
    given = parser().parse_args(arguments)
    result: int = given.run(given)
    return result


def _methods(given: argparse.Namespace) -> int:
    # What it looks at takes seconds to import.
    from properties.audit.methods.page import PAGE, page

    # Libraries warn of what they do on purpose.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = page()
    write_atomically(given.into or PAGE, lambda place: place.write_text(text, encoding="utf-8"))
    print("written:", given.into or PAGE)
    return 0


def _merge(given: argparse.Namespace) -> int:
    for module in given.variant_module:
        import_variants(module)
    # Claims are imported with it, which takes seconds that --help needs not wait for.
    from properties.audit.merge import merge
    from properties.audit.records import RecordsError

    try:
        made = merge(given.folders, given.into, given.subject)
    except RecordsError as error:
        print(error, file=sys.stderr)
        return 2
    print(made.summary)
    print("written:", ", ".join(map(str, made.written)))
    for what in made.lost:
        print(f"lost: {what}: what it should have judged is judged by others, or not judged", file=sys.stderr)
    return 1 if made.lost or made.buggy else 0


if __name__ == "__main__":
    raise SystemExit(main())
