"""python -m properties.instruments.strangers: the twelve against every claim that draws, and what is red.

python -m properties.instruments.strangers --seeds 10 --examples 200
"""

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import seed, settings

import lora_lite as ll
from properties.instruments.strangers import NAMES, registered
from properties.judging.claim import Claim, load_claims
from properties.judging.declared import confirm
from properties.judging.outcome import DECLARED, HELD, NOT_JUDGED, Meter, NotJudgedError
from properties.judging.profiles import register_profiles


def main() -> int:
    """1 where a claim is red on a variant that is right."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    given = _arguments().parse_args()
    register_profiles()
    red = 0
    for number in range(given.seeds):
        settings.register_profile(
            "strangers", settings.get_profile("dev"), max_examples=given.examples, database=None
        )
        settings.load_profile("strangers")
        for name in given.variant or NAMES:
            for oracle in (True, False):
                red += _judge(name, oracle, number, slow=given.slow)
    return min(red, 1)


def _judge(name: str, oracle: bool, number: int, *, slow: bool) -> int:
    began, found = time.perf_counter(), Counter[str]()
    of = f"{name}, {'with' if oracle else 'without'} oracle, seed {number}"
    with registered(name, oracle=oracle) as variant:
        for made in load_claims().values():
            if made.cases is None or (made.slow and not slow):
                continue
            state, why = outcome(made, variant, number)
            found[state] += 1
            if state not in (HELD, DECLARED, NOT_JUDGED, "not applicable"):
                print(f"RED {of}: {made.name}: {why}", flush=True)
    told = ", ".join(f"{count} {state}" for state, count in found.most_common())
    print(f"{of}: {told}; {time.perf_counter() - began:.0f} s", flush=True)
    return found["red"]


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


def _arguments() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m properties.instruments.strangers", description=__doc__, formatter_class=form
    )
    parser.add_argument("--variant", action="append", choices=NAMES, help="only this one (repeatable)")
    parser.add_argument("--seeds", type=int, default=1, help="runs, each with other examples")
    parser.add_argument("--examples", type=int, default=20, help="of a claim with the whole share")
    parser.add_argument("--slow", action="store_true", help="those that take seconds too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
