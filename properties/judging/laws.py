"""Laws that a method declares of its formula, as data, and how each is checked on a layer.

    laws = {"proportional_to": ("alpha",), "linear_in": ("A", "B"), "inputs": {"A": 1}, "rank": 1}

A class attribute of a variant, LAWS of an oracle of the field. Tensors have the method's own names; one that
a layer does not have is passed over, and frozen ones may be named too. A number beside a tensor is an axis.

    laws = {"where": {"side": {"in": {"keeps": ("row norms",)}, "out": {"keeps": ("column norms",)}}}}

Laws of one value of a setting; the others are asked whatever it is.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from properties.judging import law_kinds, starts, weight_laws
from properties.judging.assertions import Violation, assert_within
from properties.judging.law_kinds import Check, Compared, Draw, unchanged_by
from properties.judging.layer_function import LayerFunction
from properties.judging.outcome import tally

Laws = Mapping[str, Any]
WHERE = "where"
KINDS: dict[str, Check] = {**law_kinds.KINDS, **weight_laws.KINDS, **starts.KINDS}


def compared(f: LayerFunction, laws: Laws, name: str, draw: Draw) -> Iterator[Compared]:
    """What the law of this name says is the same. Raises Violation where there is no such law."""
    if name == "unchanged_by":
        return unchanged_by(
            f, laws[name], draw, {**laws.get("any_order_of", {}), **laws.get("one_more_zero", {})}
        )
    if name not in KINDS:
        raise Violation(f"the law {name!r} is declared, wanted one of unchanged_by, {', '.join(KINDS)}")
    return KINDS[name](f, laws[name], draw)


def named(laws: Laws) -> Iterator[tuple[str, str]]:
    """Each law with each tensor that it names, and with each setting where it is about those."""
    for law, given in laws.items():
        for name in _names(law, given):
            yield law, name
        if law == WHERE:
            yield from chain(*(named(own) for values in given.values() for own in values.values()))


def kinds(laws: Laws) -> Iterator[str]:
    """The names of all laws, those of one value of a setting too."""
    yield from laws
    for values in laws.get(WHERE, {}).values():
        yield from chain(*map(kinds, values.values()))


def _names(law: str, given: Any) -> Iterable[str]:
    if law == "unchanged_by":
        return chain(*((given,) if isinstance(given, Mapping) else given))
    if law == "norms_are":
        return list(given.values())
    if law in ("keeps", "stops_before") and isinstance(given, Mapping):
        return chain(*given.values())
    if law == "keeps":
        return ()
    if law == "norm_is":
        return chain(given, *given.values())
    return given if isinstance(given, Mapping | tuple | list) else ()


def assert_laws(f: LayerFunction, laws: Laws, seed: int, *, only: str | None = None) -> int:
    """The layer keeps each law that is declared of it. Returns how many numbers were compared.

    only: the law of this name alone; the others tell which axis of a tensor is which.
    """
    draw = Draw(seed)
    count = sum(
        _assert_law(f, laws, name, draw) for name in (laws if only is None else (only,)) if name != WHERE
    )
    for setting, values in laws.get(WHERE, {}).items() if only in (None, WHERE) else ():
        own = values.get(f.options.get(setting), {})
        found = f" where {setting} is {f.options.get(setting)}"
        count += sum(_assert_law(f, {**laws, **own}, name, draw, found) for name in own)
    return count


def _assert_law(f: LayerFunction, laws: Laws, name: str, draw: Draw, where: str = "") -> int:
    count = 0
    for one in compared(f, laws, name, draw):
        what = f"{one.what} (declared: {name} {laws[name]}{where})"
        assert_within(one.got, one.wanted, one.error, what=what, like=one.like)
        count += one.got.numel()
    tally(f"the law {name}{where}", count)
    return count
