"""python -m properties.mutation: mutants against the claims, outside of pytest.

named                     the catalogue, each on all of its variants
generic [--all]           what the operators make of lora_lite: a sample by --seed, or all of it
interface                 every interface operator on every variant
--part K/N                a part of them: many machines take one each
--module pkg.mod          of a user's module instead: generic mutants of its functions, and its variants
killers [--all]           of each named one, where not known yet, the claim that notices it alone, or two
named --by free [--by laws]   those in the variants' own code, judged without oracle, peer and claims by name
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from functools import partial
from itertools import groupby, takewhile
from pathlib import Path
from types import ModuleType

import lora_lite as ll
from properties.judging.evidence import EVIDENCE, judge_by
from properties.judging.profiles import begin_alone
from properties.mutation import generic, load_catalogue, order
from properties.mutation.command import parser_of, tell
from properties.mutation.interface import interface_mutants
from properties.mutation.matrix import Cell, Row, rows_of, run_row
from properties.mutation.mutant import Mutant
from properties.mutation.score import Outcome, score
from properties.mutation.survey import judged, killers, survey, warm
from properties.subjects.living import part_of
from properties.subjects.users import import_variants


def main() -> int:
    """1 where a mutant survives and nobody has said which claim would notice it."""
    given = arguments().parse_args()
    begin_alone("ci", max_examples=given.examples)
    if given.kind == "killers":
        _killers(given)
        return 0
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
    part, of = given.part
    mutants = mutants[part - 1 :: of]
    if given.by:
        judge_by(given.by)
    warm(variants if given.kind != "generic" else ll.VARIANTS)
    few = max(1, given.examples // 10)
    on = on_all if given.kind == "named" and not given.by else judged
    judge = partial(on, examples=few, full=given.examples)
    outcomes = tell(given, given.kind, mutants, judge)
    if given.write_order:
        targets = {m.name: m.targets for m in mutants}
        order.write((t, o.claim) for o in outcomes if o.state == "killed" for t in targets[o.mutant])
    return int("" in score(given.kind, outcomes).survivors.values())


def _killers(given: argparse.Namespace) -> None:
    """What is found is written at once, and the next run goes on from there."""
    catalogue, few = load_catalogue(), max(1, given.examples // 10)
    caught = [mutant for mutant in catalogue.values() if mutant.equivalent is None]
    missing = [mutant for mutant in caught if mutant.name not in order.stated()]
    if given.matrix:
        cells = json.loads(given.matrix.read_text(encoding="utf-8"))["cells"]
        rows = rows_of(Cell(**cell) for cell in cells)
        order.state({row.mutant: row.witnesses for row in rows if row.witnesses}, catalogue)
        missing = []
    ends = time.monotonic() + given.minutes * 60
    ask = partial(killers, examples=few, full=given.examples, everything=given.all)
    # Of a formula two claims are found at once.
    missing.sort(key=lambda m: (not _in_a_variant(m), m.applies_to[0]))
    for variant, mutants in groupby(missing, key=lambda m: m.applies_to[0]):
        if time.monotonic() < ends:
            warm([variant])
        in_time = takewhile(lambda _: time.monotonic() < ends, mutants)
        for told in survey(in_time, lambda m: (m.name, ask(m)), jobs=given.jobs, deadline=given.deadline):
            # Of a process that hung or died there is an Outcome, and no claims.
            name, found = (told.mutant, []) if isinstance(told, Outcome) else told
            print(f"{name}: {' and '.join(found) or 'not known yet'}", flush=True)
            if found:
                order.state({name: found}, catalogue)
    known = [order.stated()[m.name] for m in caught if m.name in order.stated()]
    alone = sum(len(names) == 1 for names in known)
    print(f"{len(known)} of {len(caught)}: {alone} by one claim alone, {len(known) - alone} by others too")


def _in_a_variant(mutant: Mutant) -> bool:
    """Whether all that it changes is a variant's, and not what all of them share."""
    return all(f.__module__.startswith("lora_lite.variants.") for f in mutant.targets)


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


def arguments() -> argparse.ArgumentParser:
    parser = parser_of("python -m properties.mutation", __doc__)
    add = parser.add_argument
    add("kind", choices=("named", "generic", "interface", "killers"))
    add("--module", help="a user's module that registers variants")
    add("--by", action="append", choices=EVIDENCE, help="named: a sample, by such claims alone (repeatable)")
    add("--variant", action="append", help="interface, --by: only these")
    add("--part", type=part_of, default=(1, 1), metavar="K/N", help="the K-th of N parts of the mutants")
    add("--all", action="store_true", help="generic: all of them; killers: every claim")
    add("--matrix", type=Path, help="killers: read what a run with --matrix kept")
    add("--minutes", type=float, default=math.inf, help="killers: so long, of those not known")
    add("--write-order", action="store_true", help="remember which claims noticed first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
