"""Libraries against each other: one recipe, carried through the oracle's symbols into all that have a method.

The symbols of a formula are the words that libraries share. What one has trained is written into the others'
tensors, and settings are chosen that give the same options; what each then gives is held against the formula
at these numbers, so that where two differ it is known who follows it, and whether that is the paper's side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from properties.audit.methods.entries import SIZES
from properties.audit.methods.following import HOW
from properties.judging.bound_oracle import Bound, said_output, said_weight
from properties.judging.outcome import NotJudgedError
from properties.judging.settings_seen import kin, simplest
from properties.judging.tolerance import Bounded
from properties.oracles.field import FORMULAS
from properties.subjects.bindings import BINDINGS
from properties.subjects.bindings.binding import tensors_of
from properties.subjects.library import LibraryCase, RefusedError, Settings, plain
from properties.subjects.living import library, method_of, output
from strategies import LinearRecipe
from strategies.recipes import pasteable

AGREES = "agrees"
OFF = "off by "
OTHER = "another reading: "


@dataclass(frozen=True)
class Told:
    """What became of the recipe in one library: "agrees", how far it is off, or why that cannot be told."""

    method: str
    output: str
    merged: str
    settings: str = ""


@dataclass(frozen=True)
class Meeting:
    """One formula, and all libraries that have it. side: who is with the paper where not all agree."""

    oracle: str
    recipe: str
    told: list[Told]
    side: str


def meetings(methods: Sequence[str] | None = None) -> list[Meeting]:
    """Of every formula that two libraries have, among these methods or all that are installed."""
    found: dict[str, list[str]] = {}
    for method, binding in BINDINGS.items():
        here = library(method.partition(":")[0]).missing() is None
        if here and (methods is None or method in methods):
            found.setdefault(binding.oracle, []).append(method)
    several = {o: own for o, own in found.items() if len({m.partition(":")[0] for m in own}) > 1}
    return [meeting(oracle, own) for oracle, own in several.items()]


def meeting(oracle: str, methods: Sequence[str]) -> Meeting:
    """The first of them trains; each gets what it has learnt."""
    case = _recipe(methods)
    first = Bound(case)
    told = [_told(method, first) for method in methods]
    return Meeting(oracle, pasteable(case), told, _side(oracle, told))


def _side(oracle: str, told: Sequence[Told]) -> str:
    """Who is with the formula, who is not, and of whom that cannot be said; as far as it is the paper's."""
    formula = FORMULAS[oracle]
    right = [one.method for one in told if one.output == one.merged == AGREES]
    wrong = [one.method for one in told if OFF in (one.output[: len(OFF)], one.merged[: len(OFF)])]
    if len(right) == len(told):
        return "all agree"
    paper = "the paper" if formula.source == "paper" else f"the formula, from {formula.source},"
    parts = [f"{paper} is with {', '.join(right)}"] if right else []
    parts += [f"{paper} is not with {', '.join(wrong)}"] if wrong else []
    reading = ", ".join(f"{name} = {value}" for name, value in formula.reading.items())
    return "; ".join([*parts, *([f"{paper} has {reading}"] if reading else [])])


def _recipe(methods: Sequence[str]) -> LibraryCase:
    """Of a layer that most of them take, at the first one's simplest settings, trained."""
    widths = [size for size in (*SIZES, (12, 12), (12, 6)) if all(map(_takes(size), methods))]
    d_in, d_out = widths[0] if widths else SIZES[0]
    return LibraryCase(methods[0], LinearRecipe(d_in, d_out, True), simplest(methods[0]), trained=True)


def _takes(size: tuple[int, int]) -> Any:
    def takes(method: str) -> bool:
        usual = method_of(method).widths
        return {*size} <= {*usual} or _bound(method, simplest(method), size) is not None

    return takes


def _bound(method: str, settings: Settings, size: tuple[int, int]) -> Bound | None:
    try:
        return Bound(LibraryCase(method, LinearRecipe(*size, True), settings))
    except (RefusedError, NotJudgedError):
        return None


def _told(method: str, first: Bound) -> Told:
    size = (first.case.linear.d_in, first.case.linear.d_out)
    found = _alike(method, first, size)
    if isinstance(found, str):
        return Told(method, found, found)
    settings = ", ".join(f"{name}={value}" for name, value in found.case.settings)
    if (why := carry(first.symbols, found)) is not None:
        return Told(method, why, why, settings)
    x, said = first.case.x(), said_output(first, first.case.x())
    own = said_output(found, x)
    if _compared(own.value, said, own) != AGREES:
        why = OTHER + _apart(found.options, first.options)
        return Told(method, why, why, settings)
    return Told(method, _compared(output(found.life.model, x), said, own), _merged(found, first), settings)


def _alike(method: str, first: Bound, size: tuple[int, int]) -> Bound | str:
    """The method with settings that mean the same; how tensors start is no matter where it cannot be had."""
    best: Bound | str = "it does not take this layer"
    for settings in _candidates(method, first, size):
        if (found := _bound(method, settings, size)) is None:
            continue
        if found.options.items() >= first.options.items():
            return found
        apart = {n for n in _different(found.options, first.options) if n not in HOW}
        if isinstance(best, str):
            best = OTHER + _apart(found.options, first.options) if apart else found
    return best


def _different(own: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Options that both have and that are not the same."""
    both = [n for n in wanted if n in own and not callable(own[n])]
    return [n for n in both if own[n] != wanted[n]]


def _apart(own: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What one reads as the other does not, which one alone may have a word for."""
    told = {n: f"{n} = {own[n]}, not {wanted[n]}" for n in _different(own, wanted)}
    alone = [f"{n} = {own[n]}" for n in own if n not in wanted and n not in HOW and own[n]]
    return ", ".join([told[n] for n in told if n not in HOW] or alone or [*told.values()])


def _candidates(method: str, first: Bound, size: tuple[int, int]) -> Iterator[Settings]:
    """Its simplest settings with those moved that set an option of the recipe; then one switch beside."""
    settings = {**dict(simplest(method)), **_moved(method, first, size)}
    yield tuple(settings.items())
    for switched in kin(method):
        if switched not in BINDINGS and switched.startswith(f"{method}+"):
            name = switched.partition("+")[2].partition("=")[0]
            yield tuple({**settings, name: dict(simplest(switched))[name]}.items())


def _moved(method: str, first: Bound, size: tuple[int, int]) -> dict[str, Any]:
    """Of each option that differs the setting that moves it alone, at the recipe's value."""
    given = dict(simplest(method))
    if (start := _bound(method, simplest(method), size)) is None:
        return {}
    found: dict[str, Any] = {}
    for option in _different(start.options, first.options):
        value = first.options[option]
        for name in dict.fromkeys((*given, *method_of(method).numbers)):
            other = _bound(method, tuple({**given, name: value}.items()), size)
            if other is not None and _different(other.options, start.options) == [option]:
                found |= {name: value} if other.options[option] == value else {}
    return found


def carry(symbols: dict[str, Tensor], into: Bound) -> str | None:
    """Write these numbers into the tensors that `into`'s symbols are made of; or why that cannot be.

    A symbol is a tensor with its entries in another order, or shifted: the transpose of its derivative takes
    a change of the one back to the other.
    """
    trains, own = into.formula.trains, into.symbols
    if (ours := {*own} & {*trains}) != (theirs := {*symbols} & {*trains}):
        return f"other symbols: {', '.join(sorted(ours))}, not {', '.join(sorted(theirs))}"
    # What one of them keeps of its init, and the other does not, is the same as the base is.
    wanted = {s: t.detach() for s, t in symbols.items() if s in own}
    if apart := [s for s in wanted if own[s].shape != wanted[s].shape]:
        return f"{apart[0]} is {tuple(own[apart[0]].shape)}, not {tuple(wanted[apart[0]].shape)}"
    actual = tensors_of(into.life)
    leaves = {
        n: actual[n].detach().clone().requires_grad_() for n in into.names if actual[n].is_floating_point()
    }
    made = into.binding.symbols({**actual, **leaves})
    moves = [s for s in wanted if s in made and made[s].requires_grad]
    terms = [((wanted[s] - made[s].detach()) * made[s]).sum() for s in moves]
    change = torch.stack(terms).sum()
    found = torch.autograd.grad(change, list(leaves.values()), allow_unused=True)
    with torch.no_grad():
        for name, delta in zip(leaves, found, strict=True):
            if delta is not None:
                actual[name].add_(delta)
        for symbol, tensor in into.binding.frozen(into.life.layer(0)).items():
            tensor.copy_(wanted[symbol])
    vars(into).pop("symbols", None), vars(into).pop("leaves", None)
    return None


def _compared(got: Tensor, said: Bounded, own: Bounded) -> str:
    """Within the rounding of both."""
    off, error = (got.double() - said.value).abs(), said.error + own.error
    if bool((off <= error).all()):
        return AGREES
    size = said.value.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
    return (
        f"{OFF}{(off.max() / size).item():.2g} of the largest, {(off / error).max().item():.2g} × the bound"
    )


def _merged(found: Bound, first: Bound) -> str:
    offers, life = method_of(found.case.method).offers, found.life
    said, own = said_weight(first), said_weight(found)
    if "merge" in offers:
        life.merge()
        base = life.base()
    elif "absorb" in offers:
        base = plain(life.absorb())
    else:
        return AGREES
    told = [_compared(base[name], *of) for name, *of in zip(("0.weight", "0.bias"), said, own, strict=True)]
    return next((one for one in told if one != AGREES), AGREES)
