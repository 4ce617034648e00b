"""Settings to draw, read off a config class: from annotation, default and name of each field."""

import enum
import re
import types
from collections.abc import Container, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from properties.subjects.library import Settings
from strategies.options import choices

# Layers here are a few units wide: ranks, blocks and counts that fit them.
SMALL = (2, 1, 4, 3)
# No rank is one of these often: alpha = r hides a lost scale.
ALPHAS = (16, 3, 1)


@dataclass(frozen=True)
class Family:
    """What to draw for a position of the switches, what that shrinks to, and that with one number at each
    value but its first.
    """

    settings: st.SearchStrategy[Settings]
    simplest: Settings
    apart: Mapping[str, tuple[Settings, ...]]


def families(
    config: type, leave: Container[str] = (), also: Mapping[str, tuple[Any, ...]] | None = None
) -> dict[str, Family]:
    """By name: "" with every switch at its default, and "field=value" for each other position.

    One switch at a time, so that what breaks has a name; numbers are drawn in all of them. also: positions of
    a field whose annotation does not tell them.
    """
    also = {} if also is None else also
    known = {name: field for name, field in _fields(config).items() if name not in leave or name in also}
    numbers = {name: values for name, values in numbers_of(config, leave).items() if name not in also}
    switches: dict[str, dict[str, Any]] = {"": {}}
    for name, (hint, default) in known.items():
        for value in (*_positions(hint, default), *also.get(name, ())):
            switches[f"{name}={value}"] = {name: value}
    return {name: _family(numbers, known, switched) for name, switched in switches.items()}


def _family(numbers: dict[str, tuple[Any, ...]], known: dict[str, Any], switched: dict[str, Any]) -> Family:
    others = {name: tuple(v for v in values if v != values[0]) for name, values in numbers.items()}
    others = {name: values for name, values in others.items() if values and name not in switched}
    apart = {
        name: tuple(_apart(numbers, known, switched, {name: value}) for value in values)
        for name, values in sorted(others.items())
    }
    return Family(_numbers_with(numbers, known, switched), _apart(numbers, known, switched, {}), apart)


def numbers_of(config: type, leave: Container[str] = ()) -> dict[str, tuple[Any, ...]]:
    """What is tried of each number, by its name."""
    known = {name: field for name, field in _fields(config).items() if name not in leave}
    return {
        name: values for name, (hint, default) in known.items() if (values := _numbers(name, hint, default))
    }


def keys_of(config: type, leave: Container[str] = ()) -> dict[str, tuple[Any, ...]]:
    """Another value of each seed, by its name."""
    known = {name: field for name, field in _fields(config).items() if name not in leave and _is_key(name)}
    return {name: (default + 1,) for name, (_, default) in known.items() if type(default) is int}


def _is_key(name: str) -> bool:
    return any(part in name for part in ("seed", "key"))


@st.composite
def _numbers_with(
    draw: st.DrawFn, numbers: dict[str, tuple[Any, ...]], known: dict[str, Any], switched: dict[str, Any]
) -> Settings:
    """Every number at the first of its values but for a few: where all differ, most contradict each other."""
    open_ = tuple(sorted(set(numbers) - set(switched)))
    names = draw(_few(open_)) if open_ else []
    apart = {name: draw(choices(numbers[name])) for name in sorted(names)}
    return _apart(numbers, known, switched, apart)


@cache
def _few(names: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    """Kept, as choices() are."""
    return st.lists(choices(names), max_size=3, unique=True)


def _apart(
    numbers: dict[str, tuple[Any, ...]],
    known: dict[str, Any],
    switched: dict[str, Any],
    apart: dict[str, Any],
) -> Settings:
    """The first of each number, but for those apart, and the switch; without what is a default."""
    given = {name: numbers[name][0] for name in sorted(set(numbers) - set(switched))}
    default = {name: default for name, (_, default) in known.items()}
    return tuple((n, v) for n, v in {**given, **apart, **switched}.items() if v != default[n])


def _fields(config: Any) -> dict[str, tuple[Any, Any]]:
    """Annotation and default by name."""
    hints = get_type_hints(config)
    return {field.name: (hints[field.name], _default(field)) for field in fields(config)}


def _default(field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    return None if field.default_factory is MISSING else field.default_factory()


def _positions(hint: Any, default: Any) -> list[Any]:
    """What else a switch can be set to: booleans, literals and enumerations."""
    found: list[Any] = []
    for kind in _alternatives(hint):
        if kind is bool:
            found += [True, False]
        elif get_origin(kind) is Literal:
            # "pissa_niter_[number of iters]" stands for a text with a number in it.
            found += [re.sub(r"\[.*\]", "4", v) if isinstance(v, str) else v for v in get_args(kind)]
        elif isinstance(kind, type) and issubclass(kind, enum.Enum):
            found += [member.value for member in kind]
    # True and 1 are equal, and not the same setting.
    return [value for value in found if not (value == default and type(value) is type(default))]


def _numbers(name: str, hint: Any, default: Any) -> tuple[Any, ...]:
    """What to try of a number, simplest first; () for a field that is best left at its default.

    What is dropped out is drawn anew in each call, which no claim could compare with another.
    """
    kinds = _alternatives(hint)
    if "dropout" in name:
        return (0.0,)
    if isinstance(default, bool) or _is_key(name):
        return ()
    if int in kinds:
        kept = [default] if default in (0, 1, -1, None) else []
        values = list(ALPHAS) if "alpha" in name else [*kept, *SMALL]
        return tuple(dict.fromkeys(values))
    if float in kinds and isinstance(default, float):
        return (default, default / 2)
    return ()


def _alternatives(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, types.UnionType):
        return [kind for one in get_args(hint) for kind in _alternatives(one)]
    return [hint]
