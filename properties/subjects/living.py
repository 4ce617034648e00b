"""Begins the life of a drawn case: a library, a base, and an adapter on it, trained or fresh."""

import copy
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from properties.subjects.attaching import seed_inits, usual_size
from properties.subjects.library import Library, LibraryCase, Life, Method, RefusedError
from strategies import WEIGHT_FAMILIES, LinearRecipe, gaussian, linear_recipes
from strategies.layers import SEEDS, TOKENS
from strategies.options import choices

# Where each library is judged; imported when it is asked for.
LIBRARIES = {
    "lora_lite": "properties.subjects.own:OwnLibrary",
    "peft": "properties.subjects.peft:Peft",
    "lycoris": "properties.subjects.lycoris:Lycoris",
    "litgpt": "properties.subjects.litgpt:LitGpt",
    "loralib": "properties.subjects.loralib:Loralib",
    "lora_pytorch": "properties.subjects.lora_pytorch:LoraPytorch",
}


@cache
def library(name: str) -> Library:
    """Raises KeyError for one that is not known."""
    module, _, kind = LIBRARIES[name].partition(":")
    made: Library = getattr(import_module(module), kind)()
    return made


def methods_of(name: str) -> list[str]:
    """The full names of a library's methods; the library's own where it is missing."""
    found = library(name)
    return [name] if found.missing() else [f"{name}:{method}" for method in found.methods()]


def names_of(full: str) -> set[str]:
    """What --variant may call a method: by its full name, without the library, without the setting too."""
    short = full.partition(":")[2] or full
    return {full, short, short.partition("+")[0]}


def asked_methods(config: Any) -> list[str]:
    """The full names of those that --subject and --variant ask pytest to judge, of all parts."""
    asked = config.getoption("--variant")
    methods = [method for name in config.getoption("--subject") or () for method in methods_of(name)]
    return [method for method in methods if asked is None or names_of(method) & {*asked}]


def judged_methods(config: Any) -> list[str]:
    """Of the methods that pytest is asked for those of this run's part: neighbours, which take about as long,
    are in different parts.
    """
    part, of = part_of(config.getoption("--part") or "1/1")
    return asked_methods(config)[part - 1 :: of]


def part_of(text: str) -> tuple[int, int]:
    """ "2/4" as numbers. Raises ValueError where it is no part of a whole."""
    if (found := re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)) and 1 <= int(found[1]) <= int(found[2]):
        return int(found[1]), int(found[2])
    raise ValueError(f"found {text!r}, wanted K/N: part K of N, as 2/4")


def method_of(full: str) -> Method:
    """By its full name."""
    name, _, method = full.partition(":")
    return library(name).methods()[method]


def offers_of(full: str) -> frozenset[str]:
    """What a method offers, and what its dropouts are."""
    found = method_of(full)
    said = {"dropout": found.dropouts, "input dropout": input_dropouts_of(full)}
    return found.offers | {offer for offer, names in said.items() if names}


def input_dropouts_of(full: str) -> tuple[str, ...]:
    """Of a method's dropouts those of what its adapter is given."""
    name, _, method = full.partition(":")
    known = library(name).input_dropouts(method.partition("+")[0])
    return tuple(dropout for dropout in method_of(full).dropouts if dropout in known)


@st.composite
def library_cases(
    draw: st.DrawFn,
    method: str,
    *,
    dtypes: tuple[str, ...] = ("float32", "bfloat16"),
    weights: tuple[str, ...] = WEIGHT_FAMILIES,
    tokens: tuple[tuple[int, ...], ...] = ((3,), (2, 2)),
    depths: tuple[int, ...] = (1, 2),
    widths: tuple[int, ...] | None = None,
    trained: bool = False,
) -> LibraryCase:
    """A fresh adapter. Shrinks towards one narrow float32 layer at the library's defaults."""
    found = method_of(method)
    return LibraryCase(
        method,
        draw(_linears(found.widths if widths is None else widths, weights, dtypes)),
        draw(found.settings),
        draw(choices(depths)),
        draw(choices(tokens)),
        trained,
        draw(SEEDS),
    )


# As in strategies.layers: Hypothesis examines a strategy once, if it is kept.
@cache
def _linears(
    widths: tuple[int, ...], weights: tuple[str, ...], dtypes: tuple[str, ...]
) -> st.SearchStrategy[LinearRecipe]:
    sizes = choices(widths)
    return linear_recipes(d_in=sizes, d_out=sizes, weights=weights, dtypes=dtypes)


def trained_cases(method: str, **ingredients: Any) -> st.SearchStrategy[LibraryCase]:
    """As library_cases, at parameters away from init."""
    return library_cases(method, trained=True, **ingredients)


# Every shape of input, and no numbers that only one family of weights brings.
any_tokens: dict[str, Any] = {"tokens": TOKENS}


def begin(case: LibraryCase) -> Life:
    """Attach, and train if the case says so.

    Raises RefusedError where the library takes no such case, or takes it and cannot be called.
    """
    model = case.build()
    seed_inits(case.seed)
    try:
        life = library(case.library).attach(model, case)
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError(error, case.library) from error
    life.ready()
    try:
        output(life.model, gaussian(case.seed, "the first call", (3, case.linear.d_in), case.dtype))
    except Exception as error:
        # One claim tells of it; the others would all run into the same.
        raise RefusedError(error, attached=True) from error
    if case.trained:
        move(life.trainable(), case.seed)
    return life


def move(parameters: dict[str, nn.Parameter], seed: int, size: float | None = None) -> None:
    """Every entry by about `size`; None for half of what is usual there."""
    with torch.no_grad():
        for name, tensor in parameters.items():
            if tensor.numel() == 0:
                continue
            step = gaussian(seed, f"move {name}", tuple(tensor.shape), tensor.dtype)
            tensor.add_((0.5 * usual_size(tensor) if size is None else size) * step)


def output(model: nn.Module, x: Tensor) -> Tensor:
    """Without a graph."""
    with torch.no_grad():
        result: Tensor = model(x)
    return result


def loaded_elsewhere(rank: int, place: Path, case: LibraryCase, saved: str) -> dict[str, Any]:
    """What a process of pair.py that has nothing but the files makes of them: the output, as numbers."""
    seed_inits(case.seed + 1 + rank)
    life = library(case.library).load(case.build(), Path(saved), case)
    life.ready()
    return {"y": output(life.model, case.x()).double().tolist()}


def twin(model: nn.Module) -> nn.Module:
    """A copy in float64."""
    return copy.deepcopy(model).double()


Run = Callable[[nn.Module, Tensor], Tensor]
