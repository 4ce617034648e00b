"""Draws a variant's config from what its config class declares, and shapes of layer that it works on."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

from hypothesis import strategies as st

import lora_lite as ll

# As JSON, so that a recipe's repr can be pasted back and its fixture read: ("r", 2), ("dtype", "float32").
Options = tuple[tuple[str, Any], ...]

# A claim about the library as a whole asks these alone: a user's variant must not fail in the name of
# another.
BUILT_IN = tuple(
    name for name, variant in ll.VARIANTS.items() if variant.__module__.startswith(f"{ll.__name__}.")
)
DIMS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 17, 24)
RANKS = (1, 2, 3, 4, 6, 8)
# Of the layers of models that are not drawn.
FIXED = 4
# Where a variant takes none of those.
FURTHER = tuple(n for n in range(9, 65) if n not in DIMS)
FURTHER_RANKS = tuple(n for n in range(5, 33) if n not in RANKS)
# No rank of RANKS equals one of these often: alpha = r hides a lost scale.
ALPHAS = (3.0, 16.0, 0.5)


F = TypeVar("F", bound=Callable[..., Any])
_remembered: list[Any] = []


def remembered(function: F) -> F:
    """lru_cache, until forget()."""
    _remembered.append(made := lru_cache(maxsize=4096)(function))
    return cast(F, made)


def choices(values: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """st.sampled_from, built and validated once: a third of the time of drawing a layer."""
    return _choices(values, tuple(type(value) for value in values))  # 1 and 1.0 are equal, and one cache key


@remembered
def _choices(values: tuple[Any, ...], types: tuple[type, ...]) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def own_options(variant: str) -> dict[str, tuple[Any, ...]]:
    """The variant's own config fields, with the values that they declare worth testing, simplest first."""
    fields = dataclasses.fields(ll.VARIANTS[variant].config_class)
    return {field.name: field.metadata["values"] for field in fields if "values" in field.metadata}


def simplest(variant: str) -> Options:
    """The variant's own config fields at the first values that each declares with which it takes a layer of
    fixed models, or any layer where it takes none of those.
    """
    some: tuple[Fits, ...] = (_takes_fixed, fitting)
    for fits in some:
        drawn: Options = ()
        for name in own_options(variant):
            if not (left := possible(variant, ("float32",), drawn, fits)):
                break
            drawn = (*drawn, (name, left[0]))
        else:
            if fits(variant, drawn):
                return drawn
    raise NoShapeError(refusal(variant, ("float32",)))


def _takes_fixed(variant: str, options: Options) -> tuple[int | None, ...]:
    return ranks(variant, FIXED, FIXED, options)


def build_config(variant: str, options: Options, **common: Any) -> ll.AdapterConfig:
    """The config that drawn options stand for."""
    values = {**dict(options), **common}
    if isinstance(values.get("dtype"), str):
        from lora_lite.config import ADAPTER_DTYPES

        values["dtype"] = ADAPTER_DTYPES[values["dtype"]]
    return ll.VARIANTS[variant].config_class(**values)


def accepts(variant: str, d_in: int, d_out: int, options: Options) -> bool:
    """Whether the variant takes these options on a layer of this shape."""
    if (config := _valid_config(variant, options)) is None:
        return False
    try:
        ll.VARIANTS[variant].check(ll.LinearShape(d_in, d_out), config)
    except ll.ConfigError:
        return False
    return True


@remembered
def _valid_config(variant: str, options: Options) -> ll.AdapterConfig | None:
    """The config, None where it is refused on any layer.

    Only drawing asks: what is attached is built anew each time.
    """
    try:
        return build_config(variant, options)
    except ll.ConfigError:
        return None


class NoShapeError(ll.ConfigError):
    """There is nothing to draw: the variant's `check` refuses every layer that was tried."""


@dataclass(frozen=True)
class Menu:
    """Among which widths and ranks layers are drawn. ranks: (None,) for a variant without rank."""

    dims: tuple[int, ...] = ()
    ranks: tuple[int | None, ...] = ()


@remembered
def menu(variant: str, options: Options) -> Menu:
    """The usual widths and ranks; others where the variant takes none of those with these options, and
    nothing where it takes none at all.
    """
    unranked = "r" in ll.VARIANTS[variant].config_class.unused
    usual: tuple[int | None, ...] = (None,) if unranked else RANKS
    further = () if unranked else FURTHER_RANKS
    for dims, some in ((DIMS, usual), (FURTHER, usual), (DIMS, further), (FURTHER, further)):
        for r in some:
            chosen = ranked(options, r)
            # A config that is refused on any layer is asked for once.
            if _valid_config(variant, chosen) is None:
                continue
            if any(accepts(variant, i, o, chosen) for i in reversed(dims) for o in reversed(dims)):
                return Menu(dims, some)
    return Menu()


def ranked(options: Options, r: int | None) -> Options:
    """The options with a rank, where the variant has one, in front."""
    return options if r is None else (("r", r), *options)


@remembered
def ranks(variant: str, d_in: int, d_out: int, options: Options) -> tuple[int | None, ...]:
    """The ranks that the variant can have on a layer of this shape; (None,) for a variant without rank."""
    some = menu(variant, options).ranks
    return tuple(r for r in some if accepts(variant, d_in, d_out, ranked(options, r)))


@remembered
def fitting(variant: str, options: Options, d_in: int | None = None) -> tuple[int, ...]:
    """The input widths of the menu for which some output width works; with d_in, the output widths that work
    with it.
    """
    dims = menu(variant, options).dims
    if d_in is None:
        return tuple(i for i in dims if any(ranks(variant, i, o, options) for o in reversed(dims)))
    return tuple(o for o in dims if ranks(variant, d_in, o, options))


@remembered
def near(variant: str, d_in: int, d_out: int, options: Options) -> tuple[int, int] | None:
    """The shape that the variant takes with these options, a rank included, nearest to this one: no narrower
    where there is one, else of any width; None where it takes none.
    """
    if accepts(variant, d_in, d_out, options):
        return d_in, d_out
    wider = sorted(((i, o) for i in range(33) for o in range(33)), key=sum)
    shapes = [(d_in + i, d_out + o) for i, o in wider]
    dims = sorted({*DIMS, *FURTHER}, reverse=True)
    shapes += [(i, o) for i in dims for o in dims]
    return next((shape for shape in shapes if accepts(variant, *shape, options)), None)


def near_all(variant: str, shapes: tuple[tuple[int, int], ...], options: Options) -> list[tuple[int, int]]:
    """Those of the shapes that the variant takes with these options, or the one nearest to the first."""
    taken = [shape for shape in shapes if accepts(variant, *shape, options)]
    other = None if taken else near(variant, *shapes[0], options)
    return taken if other is None else [other]


def forget() -> None:
    """Ask the library anew what it accepts: for whoever has changed it since."""
    for function in _remembered:
        function.cache_clear()


# Whether a variant takes these options, all but the rank, on what is to be drawn.
Fits = Callable[[str, Options], Any]


@st.composite
def options(draw: st.DrawFn, variant: str, *, dtypes: tuple[str, ...], fits: Fits = fitting) -> Options:
    """The variant's own options and the adapter's dtype and alpha; the rank depends on the layer and is drawn
    with it.

    Each is drawn from those with which some choice of the others fits. Raises NoShapeError where there is
    none.
    """
    drawn: Options = ()
    for name, _ in _fields(variant, dtypes):
        left = possible(variant, dtypes, drawn, fits)
        if not left:
            raise NoShapeError(refusal(variant, dtypes))
        drawn = (*drawn, (name, draw(choices(left))))
    return drawn


@remembered
def _fields(variant: str, dtypes: tuple[str, ...]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    has_alpha = "alpha" not in ll.VARIANTS[variant].config_class.unused
    alpha = (("alpha", ALPHAS),) if has_alpha else ()
    return (*own_options(variant).items(), *alpha, ("dtype", dtypes))


@remembered
def possible(variant: str, dtypes: tuple[str, ...], drawn: Options, fits: Fits) -> tuple[Any, ...]:
    """The values of the field after those drawn with which the options can be completed."""
    name, values = _fields(variant, dtypes)[len(drawn)]
    last = len(drawn) + 1 == len(_fields(variant, dtypes))

    def completed(value: Any) -> Any:
        made = (*drawn, (name, value))
        return fits(variant, made) if last else possible(variant, dtypes, made, fits)

    return tuple(value for value in values if completed(value))


def refusal(variant: str, dtypes: tuple[str, ...]) -> str:
    """What is told of a variant that takes nothing: what was tried, and what it says of one layer."""
    least = tuple((name, values[0]) for name, values in _fields(variant, dtypes) if values)
    shape, r = ll.LinearShape(8, 8), None if "r" in ll.VARIANTS[variant].config_class.unused else RANKS[0]
    try:
        ll.VARIANTS[variant].check(shape, build_config(variant, ranked(least, r)))
        said = "nothing"
    except ll.ConfigError as error:
        said = str(error)
    return (
        f"{variant}: found no layer that it takes, of widths from {DIMS[0]} to {FURTHER[-1]}, ranks from"
        f" {RANKS[0]} to {FURTHER_RANKS[-1]} and the settings that its options declare; of {shape} it says:"
        f" {said} Let its check take some of them, or declare values=(…) that it takes."
    )
