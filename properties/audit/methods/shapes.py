"""Shapes in symbols: which expression in the widths of a layer and the options of a method gives a size."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

# Of one case: d_in, d_out and every whole number among the options, by name.
Known = Mapping[str, int]


def told(shapes: Sequence[tuple[int, ...]], known: Sequence[Known]) -> str:
    """ "(d_out, r)": the first expressions, simplest first, that give these sizes in every case; a size that
    none gives is that of the first case.
    """
    if len({len(shape) for shape in shapes}) > 1:
        return "of several ranks"
    sizes = [_told([shape[i] for shape in shapes], known) for i in range(len(shapes[0]))]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _told(sizes: Sequence[int], known: Sequence[Known]) -> str:
    names = [name for name in known[0] if all(name in one for one in known)]
    found = _expressions(names, known)
    return next((text for text, values in found if values == [*sizes]), str(sizes[0]))


def _expressions(names: Sequence[str], known: Sequence[Known]) -> Iterator[tuple[str, list[int]]]:
    """What is the same in all cases comes first where it is 0 or 1, which are no rank that happens to be 1,
    and last where it is more.
    """
    for n in (0, 1):
        yield str(n), [n] * len(known)
    for a in names:
        yield a, [one[a] for one in known]
    yield "min(d_out, d_in)", [min(one["d_out"], one["d_in"]) for one in known]
    yield "max(d_out, d_in)", [max(one["d_out"], one["d_in"]) for one in known]
    for a, b in permutations(names, 2):
        yield f"{a} / {b}", [_quotient(one[a], one[b]) for one in known]
        yield f"{b} {a}", [one[a] * one[b] for one in known]
    for a in names:
        yield f"2 {a}", [2 * one[a] for one in known]
        yield f"{a} + 1", [one[a] + 1 for one in known]
        yield f"{a} ({a} - 1) / 2", [one[a] * (one[a] - 1) // 2 for one in known]


def _quotient(a: int, b: int) -> int:
    """-1, which is no size, where b does not divide a."""
    return -1 if b == 0 or a % b else a // b
