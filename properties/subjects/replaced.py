"""Libraries whose layers take a linear layer's place and are given its weights: what their lives share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from properties.subjects.library import LibraryCase, Life


class Replaced(Life):
    """A Sequential of the library's layers. held: where in a layer weight and bias lie, as "linear."."""

    def __init__(self, model: nn.Module, case: LibraryCase, held: str = "") -> None:
        self.model, self.case, self.held = model, case, held

    def layer(self, i: int) -> nn.Module:
        return self.model.get_submodule(str(i))

    def base(self) -> dict[str, Tensor]:
        state = self.model.state_dict()
        own = {
            name: name.replace(self.held, "") for name in state if name.split(".")[-1] in ("weight", "bias")
        }
        return {plain: state[name] for name, plain in own.items()}

    def save(self, folder: Path) -> None:
        state = {name: p.detach() for name, p in self.model.state_dict().items()}
        torch.save({n: t for n, t in state.items() if self.is_adapters(n)}, folder / "adapter.pt")

    def is_adapters(self, name: str) -> bool:
        """Whether the library keeps this entry of a state dict as the adapter's."""
        return "lora_" in name


def rebuilt(model: Any, case: LibraryCase, make: Callable[..., nn.Module], held: str = "") -> nn.Sequential:
    """A layer of the library for each of the base's, with its weights in its dtype."""
    layers = []
    for linear in model:
        layer = make(linear.in_features, linear.out_features, bias=linear.bias is not None)
        layer.to(case.dtype)
        state = {f"{held}{name}": tensor for name, tensor in linear.state_dict().items()}
        layer.load_state_dict(state, strict=False)
        layers.append(layer)
    return nn.Sequential(*layers)
