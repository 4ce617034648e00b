"""python -m properties.instruments.strangers: the twelve against every claim that draws, and what is red.

python -m properties.instruments.strangers --seeds 10 --examples 200 --done strangers.json

A run that was cut off goes on where --done says that it was; shards: --variant, --seed, --oracle.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from hypothesis import seed, settings

import lora_lite as ll
from properties.instruments.strangers import FURTHER, NAMES, registered
from properties.judging.claim import Claim, load_claims
from properties.judging.declared import confirm
from properties.judging.outcome import DECLARED, HELD, NOT_JUDGED, Meter, NotJudgedError
from properties.judging.profiles import begin_alone
from properties.oracles import ORACLES


def main() -> int:
    """1 where a claim is red on a variant that is right."""
    given = arguments().parse_args()
    begin_alone("dev", max_examples=given.examples, database=None)
    done = _done(given.done)
    alike: dict[tuple[str, int], set[str]] = {}
    for number in given.seed or range(given.seeds):
        for name in given.variant or NAMES:
            for oracle in (given.oracle,) if given.oracle else ("with", "without"):
                key = f"{name} {oracle} {number} {given.examples} {given.slow}"
                if key not in done:
                    same = alike.setdefault((name, number), set())
                    done[key] = _judge(name, oracle == "with", number, given, same)
                    if given.done:
                        given.done.parent.mkdir(parents=True, exist_ok=True)
                        given.done.write_text(json.dumps(done, indent=1), encoding="utf-8")
    return min(sum(done.values()), 1)


def _done(path: Path | None) -> dict[str, int]:
    """What an earlier run has judged, and in how many claims it was red."""
    known: dict[str, int] = {}
    if path is not None and path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
    return known


def _judge(name: str, oracle: bool, number: int, given: argparse.Namespace, alike: set[str]) -> int:
    """How many claims are red.

    alike: those that have not asked the oracle where there was one, and so are the same without it: filled
    in, then passed over.
    """
    began, found, seconds = time.perf_counter(), Counter[str](), dict[str, float]()
    of = f"{name}, {'with' if oracle else 'without'} oracle, seed {number}"
    with registered(name, oracle=oracle) as variant:
        for made in load_claims().values():
            if made.cases is None or (made.slow and not given.slow):
                continue
            # What tries the same for every seed is tried once.
            if number != (given.seed or [0])[0] and not made.draws:
                continue
            if not oracle and made.name in alike:
                continue
            started = time.perf_counter()
            with _calls(name) as asked:
                state, why = outcome(made, variant, number)
            seconds[made.name] = time.perf_counter() - started
            if oracle and not asked:
                alike.add(made.name)
            found[state] += 1
            if state not in (HELD, DECLARED, NOT_JUDGED, "not applicable"):
                print(f"RED {of}: {made.name}: {why}", flush=True)
    told = ", ".join(f"{count} {state}" for state, count in found.most_common())
    print(f"{of}: {told}; {time.perf_counter() - began:.0f} s", flush=True)
    for claim in sorted(seconds, key=seconds.__getitem__, reverse=True)[: given.profile]:
        print(f"    {seconds[claim]:6.1f} s  {claim}", flush=True)
    return found["red"]


@contextmanager
def _calls(name: str) -> Iterator[list[str]]:
    """The calls of its oracle, where it has one."""
    asked: list[str] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def noted(*given: Any) -> Any:
            asked.append(function.__name__)
            return function(*given)

        return noted

    formula = ORACLES.get(name)
    if formula is not None:
        laws = noting(formula.init_laws)
        ORACLES[name] = formula._replace(forward=noting(formula.forward), init_laws=laws)
    try:
        yield asked
    finally:
        if formula is not None:
            ORACLES[name] = formula


def outcome(made: Claim, variant: type[ll.Variant], number: int) -> tuple[str, str]:
    """What the claim comes to, with the examples of this seed, and why."""
    if (standing := made.standing(variant)).state is not None:
        return standing.state, standing.why
    try:
        one = Seeded(**vars(made), number=number)
        one.run(variant.name, settings(), Meter())
        why = confirm(one, variant.name, settings())
    except NotJudgedError as missing:
        return NOT_JUDGED, str(missing)
    except Exception as error:
        return "red", f"{type(error).__name__}: {error}\n    {getattr(error, 'case', '')}"
    return (DECLARED, why) if why else (HELD, "")


@dataclass(frozen=True)
class Seeded(Claim):
    """A claim whose examples come from a seed."""

    number: int = 0

    def drawing(self, variant: str, check: Callable[[Any], None]) -> Callable[[], None]:
        return seed(self.number)(super().drawing(variant, check))


def arguments() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m properties.instruments.strangers", description=__doc__, formatter_class=form
    )
    parser.add_argument(
        "--variant", action="append", choices=(*NAMES, *FURTHER), help="only this one (repeatable)"
    )
    parser.add_argument("--oracle", choices=("with", "without"), help="only so; without it both")
    parser.add_argument("--seeds", type=int, default=1, help="runs, each with other examples")
    parser.add_argument("--seed", type=int, action="append", help="only this run (repeatable)")
    parser.add_argument("--examples", type=int, default=20, help="of a claim with the whole share")
    parser.add_argument("--done", type=Path, help="kept there, and read: what is judged already")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="the N claims that took longest")
    parser.add_argument("--slow", action="store_true", help="those that take seconds too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
