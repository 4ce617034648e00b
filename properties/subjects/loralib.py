"""loralib as a subject: its Linear, and MergedLinear with an adapter on some of the rows."""

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

from properties.subjects.library import Library, LibraryCase, Life, Method, Settings
from properties.subjects.replaced import Replaced, rebuilt

RANKS: dict[str, st.SearchStrategy[Any]] = {
    "r": st.sampled_from((2, 1, 4)),
    "lora_alpha": st.sampled_from((16, 3, 1)),
}
PARTS = [(True, True), (True, False), (False, True)]


class LoralibLife(Replaced):
    """eval() merges and train() unmerges: that is its interface."""

    def ready(self) -> None:
        self.model.train()

    def merge(self) -> None:
        self.model.eval()

    def unmerge(self) -> None:
        self.model.train()


class Loralib(Library):
    """Through its layers and its two functions of the whole model."""

    name = package = "loralib"

    def missing(self) -> str | None:
        return None if find_spec("loralib") else "loralib is not installed: pip install loralib"

    def methods(self) -> Mapping[str, Method]:
        offers = frozenset({"merge", "unmerge", "save", "steady"})
        some = st.sampled_from(PARTS)
        return {
            "lora": Method("lora", _drawn(**RANKS), offers),
            "merged_linear": Method("merged_linear", _drawn(**RANKS, enable_lora=some), offers),
        }

    def identity(self, case: LibraryCase) -> bool:
        return True

    def attach(self, model: nn.Module, case: LibraryCase) -> Life:
        import loralib

        given = {n: list(v) if isinstance(v, tuple) else v for n, v in case.settings}
        kind = loralib.Linear if case.name == "lora" else loralib.MergedLinear
        made = rebuilt(model, case, partial(kind, **given))
        loralib.mark_only_lora_as_trainable(made)
        return LoralibLife(made, case)

    def load(self, model: nn.Module, folder: Path, case: LibraryCase) -> Life:
        life = self.attach(model, case)
        life.model.load_state_dict(torch.load(folder / "adapter.pt"), strict=False)
        return life


def _drawn(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Settings]:
    return st.fixed_dictionaries(fields).map(lambda given: tuple(given.items()))
