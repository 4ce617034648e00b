"""Which claims noticed failures of a function before: they are asked first, and a mutant dies sooner.

order.json is written by `python -m properties.mutation --write-order`. It changes how long a run takes, never
what it finds: a claim that is not in it is asked all the same.
"""

import json
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import FunctionType

FILE = Path(__file__).parent / "order.json"
# By module and function, the claims that noticed a mutant of it, the most frequent one first.
Known = dict[str, dict[str, list[str]]]


@cache
def known() -> Known:
    """What the file says; nothing where there is none."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


@cache
def ranking(function: FunctionType) -> dict[str, int]:
    """A place for each claim that is known: those of the function, of its module, and of the library."""
    told = known()
    module = told.get(function.__module__, {})
    own = module.get(function.__qualname__, [])
    everywhere = (claims for functions in told.values() for claims in functions.values())
    names = [*own, *_frequent(module.values()), *_frequent(everywhere)]
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _frequent(lists: Iterable[list[str]]) -> list[str]:
    return [name for name, _ in Counter(name for claims in lists for name in claims).most_common()]


def rank(functions: Iterable[FunctionType], claim: str) -> int:
    """How early to ask a claim about a mutant of these functions: the smaller the earlier."""
    return min((ranking(function).get(claim, 10_000) for function in functions), default=0)


def write(kills: Iterable[tuple[FunctionType, str]]) -> None:
    """Write the file anew, from which claim noticed a mutant of which function first."""
    counted: dict[str, dict[str, Counter[str]]] = {}
    for function, claim in kills:
        functions = counted.setdefault(function.__module__, {})
        functions.setdefault(function.__qualname__, Counter())[claim] += 1
    told: Known = {
        module: {
            name: [claim for claim, _ in claims.most_common()] for name, claims in sorted(functions.items())
        }
        for module, functions in sorted(counted.items())
    }
    # One line a module, so that a change of one is a change of one line.
    lines = ",\n".join(f"{json.dumps(module)}: {json.dumps(functions)}" for module, functions in told.items())
    FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
