"""What programs that try mutants share: their options, and the telling of what became of each."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from properties.mutation.generic import SAMPLE
from properties.mutation.mutant import Mutant
from properties.mutation.score import Kind, Outcome, score
from properties.mutation.survey import DEADLINE, survey

Judge = Callable[[Mutant], Outcome]


def parser_of(program: str, about: str | None) -> argparse.ArgumentParser:
    """With the options that all of them have."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(program, description=about, formatter_class=form)
    add = parser.add_argument
    add("--sample", type=int, default=SAMPLE, help="so many of the generic ones")
    add("--seed", type=int, default=0, help="of the sample")
    add("--examples", type=int, default=60, help="of a claim, before a mutant has survived it")
    add("--jobs", type=int, default=1, help="processes at the same time")
    add("--deadline", type=float, default=DEADLINE, help="seconds until a mutant hangs")
    add("--json", type=Path, help="write every outcome there")
    return parser


def tell(given: argparse.Namespace, kind: Kind, mutants: Sequence[Mutant], judge: Judge) -> list[Outcome]:
    """What became of each, as it is known; and the score."""
    outcomes = []
    for outcome in survey(mutants, judge, jobs=given.jobs, deadline=given.deadline):
        by = f" by {outcome.claim}" if outcome.claim else ""
        on = f" on {outcome.variant}" if outcome.variant else ""
        print(f"{outcome.state:8} {outcome.seconds:6.2f} s  {outcome.mutant}{by}{on}", flush=True)
        outcomes.append(outcome)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps([vars(outcome) for outcome in outcomes], indent=1))
    made = score(kind, outcomes)
    print(
        made.told, *(f"  {name}: {why or 'no claim named'}" for name, why in made.survivors.items()), sep="\n"
    )
    return outcomes
