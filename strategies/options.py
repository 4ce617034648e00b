"""Draws a variant's config from what its config class declares, and shapes of layer that it works on."""

import dataclasses
from functools import lru_cache
from typing import Any

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
# No rank of RANKS equals one of these often: alpha = r hides a lost scale.
ALPHAS = (3.0, 16.0, 0.5)


def choices(values: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """st.sampled_from, built and validated once: a third of the time of drawing a layer."""
    return _choices(values, tuple(type(value) for value in values))  # 1 and 1.0 are equal, and one cache key


@lru_cache(maxsize=4096)
def _choices(values: tuple[Any, ...], types: tuple[type, ...]) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def own_options(variant: str) -> dict[str, tuple[Any, ...]]:
    """The variant's own config fields, with the values that they declare worth testing, simplest first."""
    fields = dataclasses.fields(ll.VARIANTS[variant].config_class)
    return {field.name: field.metadata["values"] for field in fields if "values" in field.metadata}


def simplest(variant: str) -> Options:
    """The variant's own config fields at the first value that each declares."""
    return tuple((name, values[0]) for name, values in own_options(variant).items())


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


@lru_cache(maxsize=4096)
def _valid_config(variant: str, options: Options) -> ll.AdapterConfig | None:
    """The config, None where it is refused on any layer.

    Only drawing asks: what is attached is built anew each time.
    """
    try:
        return build_config(variant, options)
    except ll.ConfigError:
        return None


@lru_cache(maxsize=4096)
def ranks(variant: str, d_in: int, d_out: int, options: Options) -> tuple[int | None, ...]:
    """The ranks that the variant can have on a layer of this shape; (None,) for a variant without rank."""
    if "r" in ll.VARIANTS[variant].config_class.unused:
        return (None,) if accepts(variant, d_in, d_out, options) else ()
    return tuple(r for r in RANKS if accepts(variant, d_in, d_out, (*options, ("r", r))))


@lru_cache(maxsize=4096)
def fitting(variant: str, options: Options, d_in: int | None = None) -> tuple[int, ...]:
    """The input widths of DIMS for which some output width works; with d_in, the output widths that work with
    it.
    """
    if d_in is None:
        return tuple(i for i in DIMS if any(ranks(variant, i, o, options) for o in reversed(DIMS)))
    return tuple(o for o in DIMS if ranks(variant, d_in, o, options))


def forget() -> None:
    """Ask the library anew what it accepts: for whoever has changed it since."""
    for remembered in (_valid_config, ranks, fitting, _with_dtypes):
        remembered.cache_clear()


@st.composite
def options(draw: st.DrawFn, variant: str, *, dtypes: tuple[str, ...]) -> Options:
    """The variant's own options and the adapter's dtype and alpha; the rank depends on the layer and is drawn
    with it.
    """
    drawn = [(name, draw(choices(values))) for name, values in own_options(variant).items()]
    if "alpha" not in ll.VARIANTS[variant].config_class.unused:
        drawn.append(("alpha", draw(choices(ALPHAS))))
    return draw(choices(_with_dtypes(variant, tuple(drawn), dtypes)))


@lru_cache(maxsize=4096)
def _with_dtypes(variant: str, drawn: Options, dtypes: tuple[str, ...]) -> tuple[Options, ...]:
    """The options with each adapter dtype that the variant takes with them."""
    candidates = ((*drawn, ("dtype", dtype)) for dtype in dtypes)
    return tuple(candidate for candidate in candidates if fitting(variant, candidate))
