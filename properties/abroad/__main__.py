"""python -m properties.abroad: mutants of another library's package, by the claims about every library.

--subject peft --module peft.tuners.oft    those of this package, a sample by --seed
--planted                                  and the named faults of planted/
--tried FILE --tests ARGS                  those of an earlier --json, by the library's own tests
"""

import argparse
import json
import shlex
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from properties.abroad import by_claims, by_tests, mutants
from properties.judging.profiles import begin_alone
from properties.mutation.command import Judge, parser_of, tell
from properties.mutation.mutant import Mutant
from properties.subjects.living import LIBRARIES, library, methods_of, names_of


def main() -> None:
    parser = _parser()
    given = parser.parse_args()
    if given.tests and not given.tried:
        parser.error("--tests wants --tried, the --json of a run by our claims: the same mutants are asked")
    if why := library(given.subject).missing():
        parser.error(why)
    if not _is_there(given.module):
        parser.error(f"--module: {given.subject} has no {given.module}")
    methods = _methods(given, parser) or mutants.judged_of(given.subject, given.module)
    begin_alone("ci", max_examples=given.examples)
    chosen = mutants.planted(given.subject, methods) if given.planted else []
    if given.tried:
        tried = {outcome["mutant"] for outcome in json.loads(given.tried.read_text())}
        chosen = [m for m in chosen + mutants.all_of(given.module, methods) if m.name in tried]
    if given.tests:
        _by_tests(given, chosen)
    else:
        _by_claims(given, methods, chosen)


def _is_there(module: str) -> bool:
    try:
        return not module.startswith(".") and find_spec(module) is not None
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # it is, and wants something that is not
        return False


def _methods(given: argparse.Namespace, parser: argparse.ArgumentParser) -> list[str]:
    """Those that --variant names, as it names them to pytest."""
    asked, known = {*(given.variant or ())}, methods_of(given.subject)
    if unknown := asked - {name for method in known for name in names_of(method)}:
        near = get_close_matches(min(unknown), known, cutoff=0.0)
        parser.error(f"--variant: no method {', '.join(sorted(unknown))}; near: {', '.join(near)}")
    return [method for method in known if names_of(method) & asked]


def _by_tests(given: argparse.Namespace, chosen: list[Mutant]) -> None:
    # What is wrong with the subject's file is not wrong with the library.
    own = [m for m in chosen if not any(t.__module__.startswith("properties.") for t in m.targets)]

    def asked(judge: Judge) -> None:
        tell(given, "abroad", own, judge)

    by_tests.collected(shlex.split(given.tests), asked)


def _by_claims(given: argparse.Namespace, methods: list[str], chosen: list[Mutant]) -> None:
    files = mutants.files_of(given.subject, given.module, chosen)
    held = by_claims.baseline(methods, files, given.examples)
    if not given.tried:
        run = by_claims.run_by(held)
        chosen = chosen + mutants.drawn(given.module, methods, run, given.seed, given.sample)
    tell(given, "abroad", chosen, partial(by_claims.judged, held=held, examples=given.examples))


def _existing(text: str) -> Path:
    if not (path := Path(text)).is_file():
        raise argparse.ArgumentTypeError(f"no file {text}")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("python -m properties.abroad", __doc__)
    add = parser.add_argument
    add("--subject", required=True, choices=sorted(LIBRARIES), help="the library")
    add("--module", required=True, help="a package of it, or a module")
    add("--variant", action="append", help="only these methods")
    add("--planted", action="store_true", help="the named faults of planted/ too")
    add("--tried", type=_existing, help="the mutants of an earlier --json, no others")
    add("--tests", metavar="ARGS", help="by the library's own tests, pytest's arguments")
    return parser


if __name__ == "__main__":
    main()
