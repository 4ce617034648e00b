"""Recipes of a life: a base model, and what a user does with it and with adapters, step by step.

`on` says which model a step is about, where copies and fresh models have made several. Numbers that choose
one of several things (models, handles, modules, parameters) count modulo how many there are, so that a step
always means something and a list of steps can be shortened anywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

import lora_lite as ll
from strategies.layers import SEEDS
from strategies.models import BlockRecipe, NestedRecipe
from strategies.options import BUILT_IN, Options, menu, options, ranked, ranks
from strategies.tensors import DTYPES

WIDTH, INNER = 4, 6
# (d_in, d_out) of the three linear layers, in the order of the model: up, down and the readout.
SHAPES = ((WIDTH, INNER), (INNER, WIDTH), (WIDTH, 3))


@dataclass(frozen=True)
class Attach:
    """attach to these of the linear layers.

    overlap: to all of them; else to those that carry no adapter yet, or to another such layer, where there is
    one.
    blocked: the last of them takes no adapter's hook, so that attach fails half-way.
    """

    variant: str
    options: Options
    layers: tuple[int, ...] = (0,)
    overlap: bool = False
    blocked: bool = False
    on: int = 0


@dataclass(frozen=True)
class Train:
    """One step of an optimiser on the parameters of every handle."""

    on: int = 0


@dataclass(frozen=True)
class Detach:
    """detach(model), or, with a number, the detach of one of the handles that the model ever had."""

    handle: int | None = None
    on: int = 0


@dataclass(frozen=True)
class Merge:
    """Fold every adapter in."""

    on: int = 0


@dataclass(frozen=True)
class Save:
    """Write the one file that there is."""

    on: int = 0


@dataclass(frozen=True)
class Load:
    """Read it, in the dtype of the file or in another, onto this model, whatever it carries, or onto a fresh
    one of the base.

    Where there is no file yet, this model is saved first. blocked: the last layer takes no adapter's hook.
    """

    fresh: bool = True
    dtype: str | None = None
    check_base: bool = True
    blocked: bool = False
    on: int = 0


@dataclass(frozen=True)
class Copy:
    """A deep copy, another model from here on."""

    on: int = 0


@dataclass(frozen=True)
class Fresh:
    """The base as it was in the beginning; `other`: one of the same names and shapes with other numbers."""

    other: bool = False


@dataclass(frozen=True)
class StateDict:
    """This model's whole state dict, loaded into another one where its names and shapes fit."""

    into: int = 0
    on: int = 0


@dataclass(frozen=True)
class Mode:
    """train() or eval() of the whole model (module 0) or of a part."""

    training: bool = False
    module: int = 0
    on: int = 0


@dataclass(frozen=True)
class Freeze:
    """requires_grad_ of one parameter, a base's or an adapter's, the other way round; of all where there is
    no number.
    """

    parameter: int | None = None
    on: int = 0


@dataclass(frozen=True)
class Cast:
    """model.to(dtype), adapters and all."""

    dtype: str = "bfloat16"
    on: int = 0


@dataclass(frozen=True)
class Hook:
    """The user hangs a hook and a pre-hook on a module, which only look."""

    module: int = 0
    on: int = 0


Step = Attach | Train | Detach | Merge | Save | Load | Copy | Fresh | StateDict | Mode | Freeze | Cast | Hook


@dataclass(frozen=True)
class Lifecycle:
    """A base model with some of its parameters frozen by the user, and the steps of its life."""

    model: NestedRecipe
    frozen: tuple[int, ...] = ()
    steps: tuple[Step, ...] = ()
    seed: int = 0


# Most of what needs a history needs it on one model, and two adapters side by side.
ON = st.sampled_from((0, 0, 0, 1, 2))
LAYERS = st.sampled_from(((0,), (1,), (2,), (0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)))
NUMBER = st.integers(0, 11)
SELDOM = st.sampled_from((False, False, False, True))


@st.composite
def attachments(draw: st.DrawFn, variant: str) -> Attach:
    """Any layers, disjoint from others or not. Shrinks towards one layer."""
    layers = draw(LAYERS)
    drawn = draw(options(variant, dtypes=tuple(DTYPES)))
    fits = [set(ranks(variant, *SHAPES[i], drawn)) for i in layers]
    # A layer that is too narrow for a rank is refused, and is as good a step as any; eva's data has rank 3 in
    # places.
    most = 2 if ll.VARIANTS[variant].needs_calibration else max(r or 0 for r in menu(variant, drawn).ranks)
    common = set.intersection(*fits) or fits[0] or {menu(variant, drawn).ranks[-1]}
    r = draw(st.sampled_from(sorted((r for r in common if r is None or r <= most), key=lambda r: r or 0)))
    overlap, blocked = draw(SELDOM), draw(SELDOM)
    return Attach(variant, ranked(drawn, r), layers, overlap, blocked, draw(ON))


def kinds_of_step(variant: str) -> dict[str, st.SearchStrategy[Step]]:
    """What can be done, with this variant and with others; what makes a life worth looking at in more than
    one way.
    """
    dtypes = st.sampled_from(tuple(DTYPES))
    return {
        "attach": attachments(variant),
        "attach_other": st.sampled_from(BUILT_IN).flatmap(attachments),
        "train": st.builds(Train, ON),
        "save": st.builds(Save, ON),
        "load": st.builds(Load, st.booleans(), st.none() | dtypes, st.booleans(), SELDOM, ON),
        "detach": st.builds(Detach, st.none(), ON),
        "detach_one": st.builds(Detach, NUMBER, ON),
        "freeze": st.builds(Freeze, st.none() | NUMBER, ON),
        "copy": st.builds(Copy, ON),
        "state_dict": st.builds(StateDict, ON, ON),
        "fresh": st.builds(Fresh, st.booleans()),
        "mode": st.builds(Mode, st.booleans(), NUMBER, ON),
        "cast": st.builds(Cast, dtypes, ON),
        "merge": st.builds(Merge, ON),
        "hook": st.builds(Hook, NUMBER, ON),
    }


@st.composite
def bases(draw: st.DrawFn, *, dtypes: Sequence[str] = tuple(DTYPES)) -> NestedRecipe:
    """One block and a readout. Shrinks towards float32, no bias and a positional call."""
    bias, keyword, turned = (draw(st.booleans()) for _ in range(3))
    block = BlockRecipe(WIDTH, INNER, bias=bias, keyword=keyword, turned=turned)
    return NestedRecipe((block,), dtype=draw(st.sampled_from(dtypes)), seed=draw(SEEDS))


FROZEN = st.sampled_from(((), (0,), (2, 4), (1, 2, 3)))


@st.composite
def lifecycles(
    draw: st.DrawFn, variant: str, *, chosen: tuple[str, ...] | None = None, longest: int = 50
) -> Lifecycle:
    """A life that begins with attaching this variant. Shrinks towards few steps on one model.

    chosen: the kinds_of_step that it has beside attach and train; None for some of them, drawn anew for each
    life.
    """
    least = draw(st.sampled_from((0, 8, 24)))
    kinds = kinds_of_step(variant)
    # A few kinds at a time: what one of them builds up, another would soon take down.
    some = chosen or draw(st.lists(st.sampled_from(tuple(kinds)), min_size=2, max_size=5, unique=True))
    steps = st.one_of(*(kinds[name] for name in ("attach", "train", "attach_other", *some)))
    return Lifecycle(
        model=draw(bases()),
        frozen=draw(FROZEN),
        steps=(draw(attachments(variant)), *draw(st.lists(steps, min_size=least, max_size=longest - 1))),
        seed=draw(SEEDS),
    )
