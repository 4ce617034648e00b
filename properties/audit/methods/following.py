"""A method of another library as it is built here: its tensors, its init, and what its settings set."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.nn.functional import linear

from properties.audit.methods import shapes
from properties.audit.methods.entries import SIZES, Follower, Part, Setting
from properties.judging.bound_oracle import Bound, said_output
from properties.judging.outcome import NotJudgedError
from properties.judging.settings_seen import simplest
from properties.subjects.bindings import BINDINGS
from properties.subjects.bindings.binding import Binding
from properties.subjects.library import LibraryCase, Method, RefusedError, Settings
from properties.subjects.living import library, method_of, methods_of
from strategies import LinearRecipe

# Options that say how tensors start, which the laws of the init tell.
HOW = ("init", "lawful", "bound", "deviation")
DROPS = "drops out in training, which claims of their own judge"


def follower(method: str) -> Follower:
    """By its full name, as bound."""
    if missing := library(method.partition(":")[0]).missing():
        return Follower(method, why=f"not judged: {missing}")
    try:
        return _looked_at(method, BINDINGS[method])
    except (NotJudgedError, RefusedError) as error:
        return Follower(method, why=f"not judged: {error}")


def _looked_at(method: str, binding: Binding) -> Follower:
    first, *others = (_bound(method, *size) for size in _sizes(method))
    settings, changed = _settings(first, binding)
    options = first.options
    moving = {name for bound in changed for name in _different(options, bound.options)}
    return Follower(
        method,
        (first.case.linear.d_in, first.case.linear.d_out),
        _parts(first, [*others, *changed]),
        sum(parameter.numel() for parameter in first.life.trainable().values()),
        sum(tensor.numel() for tensor in first.base if tensor is not None),
        "nothing changes" if _changes_nothing(first) else "the output changes",
        _init(first),
        [*map(_law, first.formula.laws(first.symbols, first.options).items())],
        settings,
        {name: _plain(value) for name, value in options.items() if name not in moving and name not in HOW},
        bool({"merge", "absorb"} & method_of(method).offers),
        [*binding.dtypes],
    )


def _sizes(method: str) -> Sequence[tuple[int, int]]:
    """Three layers of widths that it takes."""
    small, large = method_of(method).widths[:2]
    usual = [SIZES] if method_of(method).widths == Method.widths else []
    for sizes in (*usual, ((large, small), (2 * large, small), (large, 2 * small))):
        try:
            _bound(method, *sizes[0])
        except RefusedError:
            continue
        return sizes
    return (12, 12), (24, 24), (36, 36)


def _bound(method: str, d_in: int, d_out: int, settings: Settings | None = None) -> Bound:
    given = simplest(method) if settings is None else settings
    return Bound(LibraryCase(method, LinearRecipe(d_in, d_out, True), given))


def _known(bound: Bound) -> dict[str, int]:
    whole = {n: v for n, v in bound.options.items() if isinstance(v, int) and not isinstance(v, bool)}
    d_out, d_in = bound.base[0].shape
    return {"d_out": d_out, "d_in": d_in, **whole}


def _parts(first: Bound, others: Sequence[Bound]) -> list[Part]:
    """In the words of the options, on which every case agrees."""
    found = []
    for symbol, tensor in first.symbols.items():
        cases = [one for one in (first, *others) if symbol in one.symbols]
        sizes = [tuple(one.symbols[symbol].shape) for one in cases]
        found.append(Part(symbol, shapes.told(sizes, [_known(one) for one in cases]), tensor.requires_grad))
    return found


def _changes_nothing(bound: Bound) -> bool:
    """By the formula, to its own rounding, at the tensors that the library starts with."""
    x, (W, b) = bound.case.x(), bound.base
    said = said_output(bound, x)
    return bool(((said.value - linear(x.double(), W, b)).abs() <= said.error).all())


def _init(bound: Bound) -> list[str]:
    """The names of its laws, but for shapes, which stand above."""
    if not bound.options.get("lawful", True):
        return []
    now = {s: t.detach().double() if t.is_floating_point() else t for s, t in bound.symbols.items()}
    laws = bound.formula.init_laws(*bound.base, now, bound.options, None)
    return [*dict.fromkeys(law.name for law in laws if "shape of " not in law.name)]


def _law(declared: tuple[str, Any]) -> str:
    """ "linear in A, B", "unchanged by A 1, B -1"."""
    name, given = declared
    named = [f"{k} {v}" for k, v in given.items()] if isinstance(given, Mapping) else given
    told = ", ".join(map(str, named)) if isinstance(named, list | tuple) else str(named)
    return f"{name.replace('_', ' ')} {told}"


def _settings(first: Bound, binding: Binding) -> tuple[list[Setting], list[Bound]]:
    """What each of them sets, and the cases that showed it."""
    method, given = first.case.method, dict(first.case.settings)
    found: list[Setting] = []
    shown: list[Bound] = []
    for name, values in method_of(method).numbers.items():
        tried = ", ".join(dict.fromkeys(map(_plain, values)))
        if "dropout" in name:
            found.append(Setting(name, "0", DROPS))
        elif name in binding.inert:
            found.append(Setting(name, tried, f"no part of the formula: {binding.inert[name]}"))
        else:
            tries = [value for value in dict.fromkeys(values) if value != given.get(name, values[0])]
            does, refused, bound = _does(first, name, tries)
            found.append(Setting(name, tried, does, refused))
            shown += [] if bound is None else [bound]
    return [*found, *_switches(first, binding)], shown


def _switches(first: Bound, binding: Binding) -> Iterator[Setting]:
    """Each other position of a switch, which is a method by itself."""
    method = first.case.method
    for other in methods_of(method.partition(":")[0]):
        family, _, switch = other.partition("+")
        name, _, position = switch.partition("=")
        if family != method or not switch:
            continue
        if other in BINDINGS:
            yield Setting(name, position, f"a method of its own: {BINDINGS[other].oracle}")
        elif name in binding.inert:
            yield Setting(name, position, f"no part of the formula: {binding.inert[name]}")
        else:
            try:
                does, refused, _ = _does(first, name, [dict(simplest(other))[name]])
            except NotJudgedError as error:
                does, refused = f"not judged: {error}", ""
            yield Setting(name, position, does, refused)


def _does(first: Bound, name: str, tries: Sequence[Any]) -> tuple[str, str, Bound | None]:
    """What the first of these values that is taken changes, and what becomes of those before it."""
    case, given = first.case, dict(first.case.settings)
    refused: dict[str, str] = {}
    for value in tries:
        changed = tuple({**given, name: value}.items())
        try:
            bound = _bound(case.method, case.linear.d_in, case.linear.d_out, changed)
        except RefusedError as error:
            refused[_plain(value)] = str(error).splitlines()[0]
            continue
        told = [f"{n} = {_plain(bound.options[n])}" for n in _different(first.options, bound.options)]
        told += [f"the shape of {symbol}" for symbol in _reshaped(first, bound)]
        return ", ".join(told) or "nothing where the others are as they are", _refused(refused), bound
    return "not taken where the others are as they are", _refused(refused), None


def _refused(refused: dict[str, str]) -> str:
    return "; ".join(f"{value}: {why}" for value, why in refused.items())


def _reshaped(first: Bound, other: Bound) -> list[str]:
    before, now = ({s: t.shape for s, t in bound.symbols.items()} for bound in (first, other))
    return [symbol for symbol in {**before, **now} if before.get(symbol) != now.get(symbol)]


def _different(options: dict[str, Any], others: dict[str, Any]) -> list[str]:
    """A function of the shape is another one each time it is made, and no other setting."""
    return [n for n, v in others.items() if not callable(v) and (n not in options or options[n] != v)]


def _plain(value: Any) -> str:
    if callable(value):
        return "by the shape"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
