"""Layers whose weight is not kept as numbers, as no quantiser in particular keeps it."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from strategies.tensors import gaussian


class Codes(nn.Parameter):
    """A tensor class of its own, with torch's dequantize, which knows of no scale."""


STORED: dict[str, tuple[type[Tensor], torch.dtype, tuple[int, int]]] = {
    "integer codes": (Tensor, torch.int8, (4, 4)),
    "codes of one byte": (Tensor, torch.float8_e4m3fn, (4, 4)),
    "packed numbers": (Tensor, torch.float32, (8, 2)),
    "integer codes in a class of their own": (Codes, torch.int8, (4, 4)),
}


class Coded(nn.Module):
    """A linear layer that keeps its weight a hundred times too large, in a way of its own, and takes a second
    argument.
    """

    weight: Tensor

    def __init__(self, stored: str) -> None:
        super().__init__()
        self.in_features = self.out_features = 4
        kind, dtype, shape = STORED[stored]
        codes = (gaussian(0, "codes", (4, 4)) * 40).clamp(-127, 127).round().reshape(shape).to(dtype)
        if kind is Codes:
            self.weight = Codes(codes, requires_grad=False)
        else:
            self.register_buffer("weight", codes)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        return x @ (self.weight.float().reshape(4, 4) * 0.01).mT * gain


@dataclass(frozen=True)
class OnCodes:
    """A variant on a layer whose weight is `stored` so."""

    variant: str
    stored: str

    def build(self) -> nn.Module:
        return nn.Sequential(nn.Tanh(), Coded(self.stored))


def on_codes(variant: str) -> st.SearchStrategy[OnCodes]:
    """Each way of keeping a weight."""
    return st.builds(OnCodes, st.just(variant), st.sampled_from(tuple(STORED)))
