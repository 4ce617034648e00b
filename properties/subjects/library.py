"""What a library of adapters offers, so that claims without a formula can judge each of its methods.

A method's full name is "library:method", as "peft:oft". What it does not offer is not in its `offers`, and a
claim that needs it is not applicable.
"""

import dis
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hypothesis.strategies import SearchStrategy
from torch import Tensor, nn

from strategies import LinearRecipe, gaussian
from strategies.tensors import DTYPES

Settings = tuple[tuple[str, Any], ...]

# merge      fold the adapter into the base, still attached   unmerge  and take it out again
# absorb     take the adapter off and leave its function      detach   take it off and leave the base
# disable    compute as the base for a while                  scale    multiply what it adds
# second     another adapter beside it, to switch to and from together  both of them active at a time
# save       files of its own, and load them onto a fresh base
# settings   tell those that it has, loaded or not
# steady     what trains computes what serves, where nothing is dropped out
# oracle     its tensors are bound to the symbols of a formula, see bindings
# data       it starts from data, see attach_with
# dropout    something is dropped out in training    input dropout  of what the adapter is given alone
OFFERS = (
    *("merge", "unmerge", "absorb", "detach", "disable", "scale", "second", "together", "save", "steady"),
    *("settings", "oracle", "data", "dropout", "input dropout"),
)


class RefusedError(Exception):
    """The library does not take these settings. `clear`: it says so, and did not merely run into it."""

    def __init__(self, error: Exception, library: str = "", *, attached: bool = False) -> None:
        after = "it was attached, and the first call fails with " if attached else ""
        super().__init__(f"{after}{type(error).__name__}: {error}")
        # A library that checks raises these or its own; a shape that does not fit came by accident.
        clear = (ValueError, TypeError, NotImplementedError, ImportError, AssertionError)
        own = type(error).__module__.partition(".")[0] == library
        self.clear = not attached and (own or isinstance(error, clear)) and bool(str(error).strip())


@contextmanager
def refusing() -> Iterator[None]:
    """What the library says that it does not do, inside, is no fault."""
    try:
        yield
    except (ValueError, TypeError, NotImplementedError) as error:
        raise RefusedError(error) from error
    except RuntimeError as error:
        if not _said(error):
            raise
        raise RefusedError(error) from error


def _said(error: Exception) -> bool:
    """Whether a statement raises it, and not something inside of torch."""
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    assert last is not None  # it was raised
    inside = last.tb_frame.f_globals.get("__name__", "").partition(".")[0] == "torch"
    # Not the line's text: of a mutant there is none.
    step = dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]]
    return not inside and step == "RAISE_VARARGS"


@dataclass(frozen=True)
class LibraryCase:
    """An adapter of a library on one linear layer, or on two of which the second is square.

    trained: its parameters are moved away from init, as training would.
    """

    method: str
    linear: LinearRecipe
    settings: Settings = ()
    depth: int = 1
    tokens: tuple[int, ...] = (3,)
    trained: bool = False
    seed: int = 0

    def build(self) -> nn.Sequential:
        """The base model."""
        square = replace(self.linear, d_in=self.linear.d_out, seed=self.linear.seed + 1)
        return nn.Sequential(*(recipe.build() for recipe in (self.linear, square)[: self.depth]))

    def x(self, role: str = "x") -> Tensor:
        """Input (*tokens, d_in) in the base dtype."""
        return gaussian(self.seed, role, (*self.tokens, self.linear.d_in), self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.linear.dtype]

    @property
    def library(self) -> str:
        return self.method.partition(":")[0]

    @property
    def name(self) -> str:
        """Of the method, within its library."""
        return self.method.partition(":")[2]

    @property
    def family(self) -> str:
        """Of the method without the switch that tells it from others: of "lora+use_dora=True", "lora"."""
        return self.name.partition("+")[0]


@dataclass(frozen=True)
class Method:
    """settings: what to draw for it. offers: names of OFFERS.

    widths  of layers that it may take, simplest first
    linear  the adapted layer is affine in its input
    numbers the settings that are drawn beside the switch, and what is tried of each
    keys    the seeds among the settings, which are not drawn, and what else is tried of each
    simplest  what `settings` shrinks to, where the library says
    apart   the same, by name, with one number at each value but its first
    """

    name: str
    settings: SearchStrategy[Settings]
    offers: frozenset[str]
    widths: tuple[int, ...] = (2, 4, 6, 8, 12)
    linear: bool = True
    numbers: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    simplest: Settings | None = None
    keys: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    apart: Mapping[str, tuple[Settings, ...]] = field(default_factory=dict)

    @property
    def dropouts(self) -> tuple[str, ...]:
        """The settings that say how much is dropped out."""
        return tuple(name for name in self.numbers if name.endswith("dropout"))


class Life:
    """One adapter on one model, from attach on. What a method does not offer is never called."""

    # What is called: the model with the adapter.
    model: nn.Module

    def trainable(self) -> dict[str, nn.Parameter]:
        """By name; of the adapter that is active."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def layer(self, i: int) -> nn.Module:
        """The i-th adapted layer, or what holds its adapter: its trained tensors are those of the adapter."""
        raise NotImplementedError

    def ready(self) -> None:
        """For comparing calls: in eval mode, where that is nothing but a mode."""
        self.model.eval()

    def base(self) -> dict[str, Tensor]:
        """Weight and bias of every layer as they lie in the model now, under the names of the plain base."""
        raise NotImplementedError

    def merge(self) -> None:
        raise NotImplementedError

    def unmerge(self) -> None:
        raise NotImplementedError

    def absorb(self) -> nn.Module:
        """A plain model with the adapter's function."""
        raise NotImplementedError

    def detach(self) -> nn.Module:
        """The plain base."""
        raise NotImplementedError

    def disabled(self) -> AbstractContextManager[Any]:
        raise NotImplementedError

    def scale(self, factor: float) -> None:
        """From now on the adapter adds `factor` times what it would."""
        raise NotImplementedError

    def add_second(self, settings: Settings | None = None) -> None:
        """A fresh adapter, with the same settings or others, not active."""
        raise NotImplementedError

    def switch(self, *active: int) -> None:
        """Make the first (0), the second (1) or both active."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Those that it has, by name: all that its case sets and that a library keeps."""
        raise NotImplementedError


class Stop(NamedTuple):
    """A method of a class: for the gradient its result is a constant, or, passed, it is not there at all.

    owner: None where what stops is no result of a method, and nothing can be compared.
    """

    owner: Any
    method: str = ""
    passed: bool = False


class Library:
    """name: on the command line. package: what pip installs."""

    name: str
    package: str

    def missing(self) -> str | None:
        """Why it cannot be judged here, and the remedy."""
        raise NotImplementedError

    def methods(self) -> Mapping[str, Method]:
        """By name, simplest first."""
        raise NotImplementedError

    def identity(self, case: LibraryCase) -> bool:
        """Whether a fresh adapter with these settings is said to change nothing."""
        raise NotImplementedError

    def settings(self, life: Life, case: LibraryCase) -> Any:
        """Every setting of an adapter by its name: a config, or a mapping."""
        return dict(case.settings)

    def stops(self, case: LibraryCase) -> Stop | None:
        """Where its documentation says that a gradient stops short of the whole derivative."""
        return None

    def continuous(self, case: LibraryCase) -> bool:
        """Whether its documentation leaves it a small change that a small first step makes."""
        return True

    def attach(self, model: nn.Module, case: LibraryCase) -> Life:
        """Adapt every layer. Raises whatever the library raises where it does not take the case."""
        raise NotImplementedError

    def input_dropouts(self, family: str) -> tuple[str, ...]:
        """The settings that drop entries of what all of its adapter is given, and scale up the others."""
        return ()

    def draws_once(self, case: LibraryCase) -> bool:
        """Whether what is dropped is drawn once for all that is added: not where each of its parts draws."""
        return True

    def nothing_to_drop(self, case: LibraryCase) -> bool:
        """Whether its documentation says that these settings leave a dropout without anything to act on."""
        return False

    def attach_with(self, model: nn.Module, case: LibraryCase, batches: list[Tensor]) -> Life:
        """As attach, of a method that starts from data: batches (tokens, d_in) of the model's inputs."""
        raise NotImplementedError

    def told(self, settings: Any) -> dict[str, Any]:
        """Of the settings of a method that starts from data, what its laws ask beside its binding."""
        return {}

    def load(self, model: nn.Module, folder: Path, case: LibraryCase) -> Life:
        """What Life.save wrote, onto a fresh base."""
        raise NotImplementedError


def plain(model: nn.Module) -> dict[str, Tensor]:
    """Weight and bias of every linear layer of a model without adapters, by name."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}
