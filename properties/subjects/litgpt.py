"""LitGPT as a subject: its LoRA layers, of one matrix and of query, key and value, and its adapter v2."""

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
# Which of query, key and value have an adapter.
PARTS = [(True, True, True), (True, False, True), (False, True, False), (False, False, True)]


class LitGptLife(Replaced):
    """Layers that merge for good."""

    def merge(self) -> None:
        layers: Any = self.model.children()
        for layer in layers:
            layer.merge()

    def is_adapters(self, name: str) -> bool:
        return "lora_" in name or "adapter_" in name


class LitGpt(Library):
    """Through the layers that its own models are built of."""

    name = package = "litgpt"

    def missing(self) -> str | None:
        return None if find_spec("litgpt") else "litgpt is not installed: pip install --no-deps litgpt"

    def methods(self) -> Mapping[str, Method]:
        lora, keeps = _drawn(**RANKS), frozenset({"merge", "save", "steady"})
        qkv = _drawn(**RANKS, enable_lora=st.sampled_from(PARTS))
        return {
            "lora": Method("lora", lora, keeps),
            "lora_qkv": Method("lora_qkv", qkv, keeps, widths=(6, 12)),
            "adapter_v2": Method("adapter_v2", st.just(()), frozenset({"save", "steady"})),
        }

    def identity(self, case: LibraryCase) -> bool:
        return True

    def attach(self, model: nn.Module, case: LibraryCase) -> Life:
        from litgpt import adapter_v2, lora

        if case.name == "adapter_v2":
            made = rebuilt(model, case, adapter_v2.AdapterV2Linear, "linear.")
            for name, parameter in made.named_parameters():
                parameter.requires_grad_("adapter_" in name)
            return LitGptLife(made, case, "linear.")
        given = dict(case.settings)
        make = partial(_qkv if case.name == "lora_qkv" else lora.LoRALinear, **given)
        made = rebuilt(model, case, make, "linear.")
        lora.mark_only_lora_as_trainable(made)
        return LitGptLife(made, case, "linear.")

    def load(self, model: nn.Module, folder: Path, case: LibraryCase) -> Life:
        life = self.attach(model, case)
        life.model.load_state_dict(torch.load(folder / "adapter.pt"), strict=False)
        return life


def _qkv(d_in: int, d_out: int, **given: Any) -> nn.Module:
    """One head of each, a third of the outputs wide."""
    from litgpt.lora import LoRAQKVLinear

    made: nn.Module = LoRAQKVLinear(d_in, d_out, head_size=d_out // 3, n_head=1, n_query_groups=1, **given)
    return made


def _drawn(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Settings]:
    return st.fixed_dictionaries(fields).map(lambda given: tuple(given.items()))
