"""lora-pytorch as a subject: LoRA.from_module on a model of linear layers."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from properties.subjects.library import Library, LibraryCase, Life, Method


class LoraPytorchLife(Life):
    """A LoRA around the model, and one around each layer."""

    model: Any

    def __init__(self, model: Any, case: LibraryCase) -> None:
        self.model, self.case = model, case

    def trainable(self) -> dict[str, nn.Parameter]:
        """What its parameters() gives an optimiser, which is not what named_parameters() gives."""
        own = {id(parameter) for parameter in self.model.parameters()}
        return {n: p for n, p in self.model.named_parameters() if id(p) in own}

    def layer(self, i: int) -> nn.Module:
        return self.model.module[i].lora_module  # type: ignore[no-any-return]

    def base(self) -> dict[str, Tensor]:
        return {
            f"{i}.{name}": parameter.detach()
            for i in range(self.case.depth)
            for name, parameter in self.model.module[i].module.named_parameters()
        }

    def absorb(self) -> nn.Module:
        return self.model.merge_lora()  # type: ignore[no-any-return]

    def detach(self) -> nn.Module:
        return self.model.remove_lora()  # type: ignore[no-any-return]

    def disabled(self) -> AbstractContextManager[Any]:
        return _off(self.model)

    def save(self, folder: Path) -> None:
        torch.save(self.model.state_dict(), folder / "adapter.pt")


@contextmanager
def _off(model: Any) -> Iterator[None]:
    model.disable_lora()
    yield
    model.enable_lora()


class LoraPytorch(Library):
    """Its files are state dicts of the whole."""

    name = "lora_pytorch"
    package = "lora-pytorch"

    def missing(self) -> str | None:
        return (
            None if find_spec("lora_pytorch") else "lora-pytorch is not installed: pip install lora-pytorch"
        )

    def methods(self) -> Mapping[str, Method]:
        ranks = st.sampled_from((2, 1, 4)).map(lambda rank: (("rank", rank),))
        return {"lora": Method("lora", ranks, frozenset({"absorb", "detach", "disable", "save", "steady"}))}

    def identity(self, case: LibraryCase) -> bool:
        return True

    def attach(self, model: nn.Module, case: LibraryCase) -> Life:
        from lora_pytorch import LoRA

        return LoraPytorchLife(LoRA.from_module(model, **dict(case.settings)), case)

    def load(self, model: nn.Module, folder: Path, case: LibraryCase) -> Life:
        life = self.attach(model, case)
        life.model.load_state_dict(torch.load(folder / "adapter.pt"))
        return life
