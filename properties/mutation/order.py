"""Which claims noticed before: they are asked first, and a mutant dies sooner.

order.json has the claims that noticed a failure of a function; `python -m properties.mutation named
--write-order` writes it. It changes how long a run takes, never what it finds: a claim that is not in it is
asked all the same. killers.json has for each named mutant the claim that notices it alone, or two that do;
`python -m properties.mutation killers` writes it.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

FILE = Path(__file__).parent / "order.json"
KILLERS = Path(__file__).parent / "killers.json"
# By module and function, the claims that noticed a mutant of it, the most frequent one first.
Known = dict[str, dict[str, list[str]]]


@cache
def known() -> Known:
    """What the file says; nothing where there is none."""
    return _read(FILE)


def noticed(functions: Iterable[FunctionType]) -> list[str]:
    """The claims that noticed a mutant of one of these functions."""
    told = known()
    return [claim for f in functions for claim in told.get(f.__module__, {}).get(f.__qualname__, [])]


@cache
def ranking(function: FunctionType) -> dict[str, int]:
    """A place for each claim that is known: those of the function, of its module, and of the library."""
    told = known()
    module = told.get(function.__module__, {})
    own = noticed([function])
    everywhere = (claims for functions in told.values() for claims in functions.values())
    names = [*own, *_frequent(module.values()), *_frequent(everywhere)]
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _frequent(lists: Iterable[list[str]]) -> list[str]:
    return [name for name, _ in Counter(name for claims in lists for name in claims).most_common()]


def rank(functions: Iterable[FunctionType], claim: str) -> int:
    """How early to ask a claim about a mutant of these functions: the smaller the earlier."""
    return min((ranking(function).get(claim, 10_000) for function in functions), default=0)


def write(kills: Iterable[tuple[FunctionType, str]]) -> None:
    """Write the file anew: which claim noticed a mutant of which function first, and those known before."""
    told: Known = {module: dict(functions) for module, functions in known().items()}
    counted = Counter((function.__module__, function.__qualname__, claim) for function, claim in kills)
    # The most frequent one last, and so in front of the others.
    for (module, name, claim), _ in reversed(counted.most_common()):
        before = told.setdefault(module, {}).get(name, [])
        told[module][name] = [claim, *(other for other in before if other != claim)]
    _write(FILE, told)


@cache
def stated() -> Mapping[str, list[str]]:
    """By named mutant the claim that notices it alone, or two that do; nothing where nobody measured it."""
    return _read(KILLERS)


def state(found: Mapping[str, list[str]], catalogue: Iterable[str]) -> None:
    """Write these, and of those known before what the catalogue still has."""
    told = {**stated(), **found}
    _write(KILLERS, {name: told[name] for name in catalogue if name in told})
    stated.cache_clear()


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _write(file: Path, told: Mapping[str, object]) -> None:
    # One line a name, so that a change of one is a change of one line.
    lines = (f"{json.dumps(name)}: {json.dumps(told[name], sort_keys=True)}" for name in sorted(told))
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
