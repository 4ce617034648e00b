"""Recipes of what wraps a model or its parts, before an adapter comes or after."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from strategies.scopes import WIDTH

WRAPS: dict[str, Callable[[nn.Module], Any]] = {
    "torch.compile": lambda module: torch.compile(module, backend="eager"),
    "checkpoint_wrapper": lambda module: checkpoint_wrapper(module),
    "DataParallel": lambda module: nn.DataParallel(module),
}
# Where: a block, a layer in it, the last layer, the model itself.
PLACES = ("0", "0.1", "1", "")


@dataclass(frozen=True)
class Wrapped:
    """A model of one block and a layer, with wrappers around its parts: (where, one of WRAPS), in turn."""

    variant: str
    wraps: tuple[tuple[str, str], ...]
    before: bool = False

    def build(self) -> nn.Module:
        """The plain model."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            block = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))
            return nn.Sequential(block, nn.Linear(WIDTH, WIDTH))

    def wrap(self, model: Any) -> nn.Module:
        """The same with its wrappers: the inner ones first."""
        for where, kind in sorted(self.wraps, key=lambda wrap: -len(wrap[0])):
            if where == "":
                model = WRAPS[kind](model)
            elif where == "0.1":
                model[0][1] = WRAPS[kind](model[0][1])
            else:
                model[int(where)] = WRAPS[kind](model[int(where)])
        return model  # type: ignore[no-any-return]


def wrapped(variant: str) -> st.SearchStrategy[Wrapped]:
    """Shrinks towards one compiled block, wrapped after attach."""
    one = st.tuples(st.sampled_from(PLACES), st.sampled_from(tuple(WRAPS)))
    several = st.lists(one, min_size=1, max_size=3, unique_by=lambda wrap: wrap[0])
    return st.builds(Wrapped, st.just(variant), several.map(tuple), st.booleans())
