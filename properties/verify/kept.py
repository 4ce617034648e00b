"""Tensors as they were, to be put back, and off by a rounding for a while."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Kept:
    """Copies of a model's named tensors, and which parts it has: a library that fails has wrapped some."""

    def __init__(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        self._parts = [(module, dict(module._modules)) for module in model.modules()]
        self._tensors = tensors
        self._was = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def changed(self) -> list[str]:
        """Those that hold something else now, by their bytes: a NaN is itself."""
        return [n for n, was in self._was.items() if not torch.equal(_bytes(self._tensors[n]), _bytes(was))]

    def only_changed(self) -> "Kept":
        """This, without the copies of the rest."""
        self._was = {name: self._was[name] for name in self.changed()}
        return self

    def put_back(self) -> None:
        for module, parts in self._parts:
            module._modules.clear()
            module._modules.update(parts)
        for name, was in self._was.items():
            self._tensors[name].data = was


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().reshape(-1).view(torch.uint8)


@contextmanager
def perturbed(tensors: list[Tensor], seed: int, roundoff: float) -> Iterator[None]:
    """Inside, every number is off by about one rounding."""
    generator = torch.Generator().manual_seed(seed)
    kept = [tensor.detach().clone() for tensor in tensors]
    try:
        with torch.no_grad():
            for tensor in tensors:
                noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.mul_(1 + roundoff * noise.to(tensor.device))
        yield
    finally:
        with torch.no_grad():
            for tensor, numbers in zip(tensors, kept, strict=True):
                tensor.copy_(numbers)


@contextmanager
def rounded(layers: Iterable[nn.Module], seed: int, roundoff: float) -> Iterator[None]:
    """Inside, what each of the layers gives is off by about one rounding: one kernel rounds the sum of base
    and adapter otherwise than two.
    """
    generator = torch.Generator().manual_seed(seed)

    def off(_: nn.Module, __: Any, y: Tensor) -> Tensor:
        noise = torch.randn(y.shape, generator=generator, dtype=torch.float64)
        return (y * (1 + roundoff * noise.to(y.device))).to(y.dtype)

    hooks = [layer.register_forward_hook(off) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
