"""A model of two layers, and data for it, where claims about calibration draw nothing."""

from typing import Any

import torch
from torch import Tensor, nn

from strategies import gaussian


def two_layers(width: int = 8) -> Any:
    """`sharp` gets inputs along a line and a little more, `flat` the same in all directions."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sharp, self.flat = nn.Linear(width, width), nn.Linear(width, width)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.sharp(x * 0.1 ** torch.arange(width)) + self.flat(x)
            return y

    return Two()


def batches(*sizes: int, width: int = 8) -> list[Tensor]:
    """Random tokens (size, width), each batch of its own."""
    return [gaussian(i, "batch", (size, width)) for i, size in enumerate(sizes)]
