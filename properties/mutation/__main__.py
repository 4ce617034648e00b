"""python -m properties.mutation: mutants against the claims, outside of pytest.

named                     the catalogue, each on all of its variants
generic [--all]           what the operators make of lora_lite: a sample by --seed, or all of it
interface                 every interface operator on every variant
--module pkg.mod          of a user's module instead: generic mutants of its functions, and its variants
killers [--all]           of each named one, where not known yet, the claim that notices it alone, or two
named --by free [--by laws]   those in the variants' own code, judged without oracle, peer and claims by name
foreign --subject peft --module peft.tuners.oft   of another library, by the claims about every library
"""

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

import lora_lite as ll
from properties.judging.profiles import begin_alone
from properties.mutation import foreign, generic, load_catalogue, order, own_tests
from properties.mutation.evidence import EVIDENCE, judge_by
from properties.mutation.interface import interface_mutants
from properties.mutation.matrix import Cell, Row, rows_of, run_row
from properties.mutation.mutant import Mutant
from properties.mutation.score import Kind, Outcome, score
from properties.mutation.survey import DEADLINE, judged, killers, survey, warm
from properties.subjects.living import LIBRARIES, library
from properties.subjects.users import import_variants


def main() -> None:
    given = _arguments().parse_args()
    begin_alone("ci", max_examples=given.examples)
    if given.kind == "foreign":
        _foreign(given)
        return
    if given.kind == "killers":
        _killers(given)
        return
    module = _module(given.module) if given.module else None
    own = [name for name, v in ll.VARIANTS.items() if module and v.__module__ == module.__name__]
    variants = given.variant or own or list(ll.VARIANTS)
    if given.kind == "generic":
        mutants: Sequence[Mutant] = generic.generated([module or ll])
        size = len(mutants) if given.all else given.sample
        mutants = generic.sample(mutants, given.seed, size)
    elif given.kind == "interface":
        mutants = [mutant for variant in variants for mutant in interface_mutants(variant)]
    else:
        mutants = [m for m in load_catalogue().values() if m.equivalent is None]
        if given.by:
            their = [m for m in mutants if _in_a_variant(m) and {*m.applies_to} & {*variants}]
            mutants = generic.sample(their, given.seed, given.sample)
    if given.by:
        judge_by(given.by)
    warm(variants if given.kind != "generic" else ll.VARIANTS)
    few = max(1, given.examples // 10)
    on = on_all if given.kind == "named" and not given.by else judged
    judge = partial(on, examples=few, full=given.examples)
    outcomes = _tell(given, given.kind, mutants, judge)
    if given.write_order:
        targets = {m.name: m.targets for m in mutants}
        order.write((t, o.claim) for o in outcomes if o.state == "killed" for t in targets[o.mutant])


def _killers(given: argparse.Namespace) -> None:
    """One after the other; what is found is written at once, and the next run goes on from there."""
    catalogue, few = load_catalogue(), max(1, given.examples // 10)
    caught = [mutant for mutant in catalogue.values() if mutant.equivalent is None]
    missing = [mutant for mutant in caught if mutant.name not in order.stated()]
    if given.matrix:
        cells = json.loads(given.matrix.read_text(encoding="utf-8"))["cells"]
        rows = rows_of(Cell(**cell) for cell in cells)
        order.state({row.mutant: row.witnesses for row in rows if row.witnesses}, catalogue)
        missing = []
    began = time.monotonic()
    # Of a formula two claims are found at once.
    for mutant in sorted(missing, key=lambda m: not _in_a_variant(m)):
        if time.monotonic() - began > given.minutes * 60:
            break
        found = killers(mutant, examples=few, full=given.examples, everything=given.all)
        print(f"{mutant.name}: {' and '.join(found) or 'not known yet'}", flush=True)
        if found:
            order.state({mutant.name: found}, catalogue)
    told = [order.stated()[m.name] for m in caught if m.name in order.stated()]
    alone = sum(len(names) == 1 for names in told)
    print(f"{len(told)} of {len(caught)}: {alone} by one claim alone, {len(told) - alone} by others too")


def _in_a_variant(mutant: Mutant) -> bool:
    """Whether all that it changes is a variant's, and not what all of them share."""
    return all(f.__module__.startswith("lora_lite.variants.") for f in mutant.targets)


def _foreign(given: argparse.Namespace) -> None:
    """The mutants of a library's package, by our claims or by its own tests."""
    if not (given.subject and given.module):
        sys.exit("foreign wants --subject, a library, and --module, a package of it")
    if given.tests and not given.tried:
        sys.exit("--tests wants --tried, the --json of a run by our claims: the same mutants are asked")
    if why := library(given.subject).missing():
        sys.exit(why)
    methods = given.variant or foreign.judged_of(given.subject, given.module)
    mutants = foreign.planted(given.subject, methods) if given.planted else []
    if given.tried:
        tried = {outcome["mutant"] for outcome in json.loads(given.tried.read_text())}
        mutants = [m for m in mutants + foreign.all_of(given.module, methods) if m.name in tried]
    if given.tests:
        # What is wrong with the subject's file is not wrong with the library.
        own = [m for m in mutants if not any(t.__module__.startswith("properties.") for t in m.targets)]
        own_tests.collected(shlex.split(given.tests), lambda judge: _tell(given, "foreign", own, judge))
        return
    held = foreign.baseline(methods, foreign.files_of(given.subject, given.module, mutants), given.examples)
    if not given.tried:
        mutants += foreign.mutants_of(given.module, methods, held, given.seed, given.sample)
    _tell(given, "foreign", mutants, partial(foreign.judged, held=held, examples=given.examples))


def _tell(
    given: argparse.Namespace, kind: Kind, mutants: Sequence[Mutant], judge: Callable[[Mutant], Outcome]
) -> list[Outcome]:
    """What became of each, as it is known; and the score."""
    outcomes = []
    for outcome in survey(mutants, judge, jobs=given.jobs, deadline=given.deadline):
        by = f" by {outcome.claim} on {outcome.variant}" if outcome.claim else ""
        print(f"{outcome.state:8} {outcome.seconds:6.2f} s  {outcome.mutant}{by}", flush=True)
        outcomes.append(outcome)
    if given.json:
        given.json.write_text(json.dumps([vars(outcome) for outcome in outcomes], indent=1))
    made = score(kind, outcomes)
    print(
        made.told, *(f"  {name}: {why or 'no claim named'}" for name, why in made.survivors.items()), sep="\n"
    )
    return outcomes


def _module(name: str) -> ModuleType:
    try:
        return import_variants(name)
    except ImportError as error:
        sys.exit(str(error))


def on_all(mutant: Mutant, *, examples: int, full: int) -> Outcome:
    """A named mutant has to be noticed on each of its variants: the outcome is that of the worst."""
    row: Row = run_row(mutant, examples=examples, full=full, whole=False)
    first = next((cell for cell in row.cells if cell.outcome == "killed"), None)
    if row.survivors or first is None:
        return Outcome(mutant.name, "survived", variant=", ".join(row.survivors))
    return Outcome(mutant.name, "killed", first.claim, first.variant, first.detail[:200])


def _arguments() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    told = "python -m properties.mutation"
    parser = argparse.ArgumentParser(told, description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("kind", choices=("named", "generic", "interface", "killers", "foreign"))
    add("--module", help="a user's module that registers variants; foreign: a package")
    add("--subject", choices=sorted(LIBRARIES), help="foreign: the library that it is of")
    add("--by", action="append", choices=EVIDENCE, help="named: by such claims alone (repeatable)")
    add("--variant", action="append", help="interface, --by: only these; foreign: these methods")
    add("--planted", action="store_true", help="foreign: the named faults of planted/ too")
    add("--tried", type=Path, help="foreign: the mutants of an earlier --json, no others")
    add("--tests", metavar="ARGS", help="foreign: by the library's own tests, pytest's arguments")
    add("--all", action="store_true", help="generic: all of them; killers: every claim")
    add("--matrix", type=Path, help="killers: read what a run with --matrix kept")
    add("--minutes", type=float, default=math.inf, help="killers: so long, of those not known")
    add("--sample", type=int, default=generic.SAMPLE, help="generic, --by: so many of them")
    add("--seed", type=int, default=0, help="generic, --by: of the sample")
    add("--examples", type=int, default=60, help="of a claim, before a mutant has survived it")
    add("--jobs", type=int, default=1, help="processes at the same time")
    add("--deadline", type=float, default=DEADLINE, help="seconds until a mutant hangs")
    add("--json", type=Path, help="write every outcome there")
    add("--write-order", action="store_true", help="remember which claims noticed first")
    return parser


if __name__ == "__main__":
    main()
