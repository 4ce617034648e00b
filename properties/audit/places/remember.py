"""What earlier runs leave to later ones: which claims each known fault made fail, which steps of the library
each claim runs while it holds, and how often the place that they led to was the right one.

python -m properties.audit.places writes it.
"""

import json
from base64 import b85decode, b85encode
from collections import Counter
from collections.abc import Sequence, Set
from functools import cache
from pathlib import Path
from typing import Any
from zlib import compress, decompress

from properties.audit.places.localise import Item, Known, Memory, Steps
from properties.audit.report import Localisation
from properties.audit.tracing import statements

HERE = Path(__file__).parent
MEMORY, FIGURES = HERE / "memory.json", HERE / "figures.json"


def figures() -> Localisation | None:
    """How often localise finds the place, over the catalogue; None where nobody has measured it."""
    return Localisation(**json.loads(FIGURES.read_text("utf-8"))) if FIGURES.is_file() else None


def remembered(faults: Sequence[Known], always: Steps, ever: Steps) -> dict[str, Any]:
    """As JSON: by claim the steps of the library that it ran, and by function the faults that were in it,
    each by the claims that failed. What was run and what failed are bits, in base 85.
    """
    every = sorted({statement.step for statement in statements().values()})
    claims = sorted(ever)
    return {
        "steps": dict(Counter(function for function, _ in every)),
        "claims": {claim: [_bits(always[claim], every), _bits(ever[claim], every)] for claim in claims},
        "faults": {
            function: [_bits(known.claims, claims) for known in faults if known.function == function]
            for function in sorted({known.function for known in faults})
        },
    }


def _bits(some: Set[Item], every: Sequence[Item]) -> str:
    number = sum(1 << place for place, item in enumerate(every) if item in some)
    return b85encode(compress(number.to_bytes(len(every) // 8 + 1, "little"), 9, -15)).decode()


def _some(bits: str, every: Sequence[Item]) -> frozenset[Item]:
    number = int.from_bytes(decompress(b85decode(bits), -15), "little")
    return frozenset(item for place, item in enumerate(every) if number >> place & 1)


@cache
def memory() -> Memory:
    """Of the runs that were last measured; empty where there is no file of them.

    A function that has more or fewer statements now has been rewritten, and its steps are forgotten.
    """
    if not MEMORY.is_file():
        return Memory()
    data = json.loads(MEMORY.read_text("utf-8"))
    every = [(function, number) for function, size in data["steps"].items() for number in range(size)]
    now = Counter(statement.function for statement in set(statements().values()))
    same = {function for function, size in data["steps"].items() if now[function] == size}
    claims = list(data["claims"])

    always, ever = (
        {
            claim: frozenset(step for step in _some(both[which], every) if step[0] in same)
            for claim, both in data["claims"].items()
        }
        for which in (0, 1)
    )
    faults = [
        Known(function, _some(bits, claims)) for function, all_ in data["faults"].items() for bits in all_
    ]
    return Memory(faults, always, ever)
