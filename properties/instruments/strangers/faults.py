"""python -m properties.instruments.strangers.faults: the twelve with one thing wrong, with an oracle and
without.

Interface operators and a sample of generic ones, each until the first claim that notices, in the order in
which a run of pytest asks them: that claim is the place that its user is pointed to first.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lora_lite as ll
from properties.instruments.strangers import FURTHER, NAMES, registered
from properties.judging.assertions import Violation
from properties.judging.claim import Claim
from properties.judging.outcome import STAGES, NotJudgedError
from properties.judging.profiles import begin_alone
from properties.mutation import generic
from properties.mutation.interface import interface_mutants
from properties.mutation.matrix import applicable
from properties.mutation.mutant import Mutant
from properties.mutation.reach import budget, nothing_remembered
from properties.mutation.score import is_equivalent
from properties.mutation.trees import InjectionError
from strategies.options import forget

# Where a fault is, by the function that it is in; of the hooks both what a layer gives and what it learns.
PLACES = {
    "adapt_output": ("forward", "gradient"),
    "adapt_input": ("forward", "gradient"),
    "specs": ("init", "attach", "gradient"),
    "initialise": ("init", "attach"),
    "check": ("refusal", "attach"),
    "identity": ("init",),
    "__post_init__": ("refusal",),
    "attach": ("attach", "init", "gradient"),
    "save": ("save", "load"),
    "load": ("load", "save"),
    "merge": ("merge",),
}
# Of which nothing but a formula knows that they are no other method.
FORMULA = ("update_doubled", "update_a_little_larger", "update_negated", "update_transposed")
# What claims of earlier stages do not call.
BEFORE = {"save": "save", "load": "save", "merge": "merge"}


@dataclass(frozen=True)
class Fault:
    """What became of one: "killed", "loud" (an exception), "survived" or "equivalent".

    place   the stages of a claim that points to it
    claim   the first that noticed, of `stage`; tensor: what it says is off; told: its first line
    """

    variant: str
    oracle: bool
    kind: str
    mutant: str
    place: Sequence[str]
    state: str
    claim: str = ""
    stage: str = ""
    tensor: str = ""
    told: str = ""

    @property
    def placed(self) -> bool:
        """At init an output that is not the base's may be the fault of what computes it, or starts it."""
        of_the_hook = any(word in self.tensor for word in ("output", "gradient"))
        return self.stage in self.place or ("forward" in self.place and of_the_hook)


def main() -> int:
    """1 where one survives."""
    given = _arguments().parse_args()
    begin_alone("ci", max_examples=given.examples)
    found: list[Fault] = []
    for name in given.variant or NAMES:
        for oracle in {"with": (True,), "without": (False,)}.get(given.oracle, (True, False)):
            found += _printed(_tried(name, oracle, given))
            if given.json:
                given.json.write_text(json.dumps([asdict(one) for one in found], indent=1), encoding="utf-8")
    print(*table(found), sep="\n")
    return int(any(one.state == "survived" for one in found))


def _tried(name: str, oracle: bool, given: argparse.Namespace) -> Iterator[Fault]:
    with registered(name, oracle=oracle) as kind:
        _forget()
        chosen: list[tuple[str, Mutant]] = [("interface", mutant) for mutant in interface_mutants(name)]
        own = [mutant for function in functions_of(kind) for mutant in generic.mutants_of(function, [name])]
        chosen += [("generic", mutant) for mutant in generic.sample(own, given.seed, given.sample)]
        for kind_of, mutant in chosen:
            if given.only is None or given.only in mutant.name:
                yield tried(name, oracle, kind_of, mutant, given.examples)
    _forget()


def functions_of(kind: type[ll.Variant]) -> list[Any]:
    """Those of the variant and of its config: those of the oracle beside them are no variant's."""
    own = (kind.__qualname__, kind.config_class.__qualname__)
    functions = generic.functions_of(sys.modules[kind.__module__])
    return [function for function in functions if function.__qualname__.partition(".")[0] in own]


def _forget() -> None:
    """What was found of a variant with its oracle is not so without."""
    applicable.cache_clear()


def tried(name: str, oracle: bool, kind: str, mutant: Mutant, full: int) -> Fault:
    """By few examples of every claim, then by all of them."""
    places = [place for target in mutant.targets for place in PLACES.get(target.__name__, STAGES)]
    became = partial(Fault, name, oracle, kind, mutant.name, places)
    if is_equivalent(mutant.name) or (not oracle and mutant.name.partition(": ")[2] in FORMULA):
        return became("equivalent")
    own = (made for made in applicable(name) if made.cases is not None)
    claims = sorted(own, key=lambda made: made.turn)
    first = {BEFORE.get(target.__name__, STAGES[0]) for target in mutant.targets}
    likely = [made for made in claims if STAGES.index(made.stage) >= min(map(STAGES.index, first))]
    with nothing_remembered():
        for asked, examples in ((likely, max(1, full // 6)), (claims, full)):
            for made in asked:
                told = _first(made, mutant.injected, name, examples)
                # What fails on the right variant too says nothing of the fault.
                if told is not None and _first(made, nullcontext, name, examples) is None:
                    return became(*told)
    return became("survived")


def _first(
    made: Claim, injected: Callable[[], AbstractContextManager[None]], name: str, examples: int
) -> tuple[str, str, str, str, str] | None:
    """State, claim, stage, tensor and message; None where it holds."""
    # What the one accepts, the right variant need not.
    forget()
    try:
        with injected():
            made.run(name, budget(examples, shrink=False))
    except Violation as violation:
        if _of_the_compiler(violation):
            return None
        told = str(violation).splitlines()[0]
        return "killed", made.name, made.stage, violation.tensor or "", told
    except InjectionError:
        raise
    except NotJudgedError:
        return None
    except Exception as error:
        if _of_the_compiler(error):
            return None
        return "loud", made.name, made.stage, "", f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def _of_the_compiler(error: BaseException | None) -> bool:
    """Whether torch.compile raised it, which does not look into the wrapper of a mutant."""
    while error is not None:
        if any("_dynamo" in frame.filename for frame in traceback.extract_tb(error.__traceback__)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _printed(found: Iterator[Fault]) -> Iterator[Fault]:
    for one in found:
        mark = "" if one.state != "killed" or one.placed else "  [elsewhere]"
        of = "with" if one.oracle else "without"
        by = f"{one.claim} ({one.stage}){mark} | {one.told}" if one.claim else ""
        print(f"{one.state:10} {of:7} {one.mutant} | {by}", flush=True)
        yield one


def table(found: Sequence[Fault]) -> Iterator[str]:
    """A row a variant, as Markdown: noticed of those that are no equivalents, and how many at their place."""
    yield "| variant | oracle | interface | generic | loud | equivalent | first claim at the fault's place |"
    yield "|---|---|---|---|---|---|---|"
    for name, oracle in dict.fromkeys((one.variant, one.oracle) for one in found):
        rows = [one for one in found if (one.variant, one.oracle) == (name, oracle)]
        shares = []
        for kind in ("interface", "generic"):
            tried = [one for one in rows if one.kind == kind and one.state in ("killed", "survived")]
            shares.append(f"{sum(one.state == 'killed' for one in tried)} of {len(tried)}")
        killed = [one for one in rows if one.state == "killed"]
        loud, same = (sum(one.state == state for one in rows) for state in ("loud", "equivalent"))
        placed = f"{sum(one.placed for one in killed)} of {len(killed)}"
        of = "with" if oracle else "without"
        yield f"| {name} | {of} | {' | '.join(shares)} | {loud} | {same} | {placed} |"


def _arguments() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m properties.instruments.strangers.faults", description=__doc__, formatter_class=form
    )
    parser.add_argument(
        "--variant", action="append", choices=(*NAMES, *FURTHER), help="only this one (repeatable)"
    )
    parser.add_argument("--oracle", choices=("with", "without"), help="only so; without it both")
    parser.add_argument("--sample", type=int, default=8, help="generic ones of each variant")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--examples", type=int, default=60, help="of a claim before a fault survives it")
    parser.add_argument("--only", help="those with this in their names")
    parser.add_argument("--json", type=Path, help="write what became of each there")
    return parser


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
