"""Recipes of layers that a real quantiser quantised."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

from strategies.layers import AdaptedLayer, adapted_layers, trained_layers
from strategies.tensors import device


def bitsandbytes(plain: nn.Linear) -> nn.Module:
    """A Linear8bitLt: int8 codes with a scale a row, and an input that is rounded to int8 too."""
    from bitsandbytes.nn import Linear8bitLt  # type: ignore[attr-defined]

    layer: Any = Linear8bitLt(
        plain.in_features, plain.out_features, plain.bias is not None, has_fp16_weights=False
    )
    layer.load_state_dict(plain.state_dict())
    return layer.to(device())  # type: ignore[no-any-return]


def four_bit(plain: nn.Linear) -> nn.Module:
    """A Linear4bit: two NF4 codes a byte with a scale for each 64 of them, scales that are codes too;
    computed in floats.
    """
    from bitsandbytes.nn import Linear4bit  # type: ignore[attr-defined]

    shape, bias = (plain.in_features, plain.out_features), plain.bias is not None
    layer: Any = Linear4bit(*shape, bias, plain.weight.dtype, quant_type="nf4")  # type: ignore[no-untyped-call]
    layer.load_state_dict(plain.state_dict())
    return layer.to(plain.weight.dtype).to(device())  # type: ignore[no-any-return]


def torchao(plain: nn.Linear) -> nn.Module:
    """An nn.Linear whose weight is int8 codes with a scale a row, and which computes in floating point."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_  # type: ignore[import-untyped]

    quantize_(model := nn.Sequential(plain), Int8WeightOnlyConfig())
    return model[0]


QUANTISERS: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "bitsandbytes": bitsandbytes,
    "bitsandbytes 4-bit": four_bit,
    "torchao": torchao,
}
PACKAGES = ("bitsandbytes", "torchao")


def calibrates_in_place(where: torch.device) -> bool:
    """Whether a four-bit layer survives calibration: bitsandbytes repacks it on the CPU in eval mode."""
    return where.type != "cpu"


@dataclass(frozen=True)
class QuantisedLayer(AdaptedLayer):
    """An adapter on a layer that one of QUANTISERS quantised."""

    quantiser: str = "torchao"

    def build(self) -> nn.Module:
        plain = self.linear.build()
        assert isinstance(plain, nn.Linear), "quantised_layers() draws none that is turned"
        return nn.Sequential(QUANTISERS[self.quantiser](plain))


def quantised_layers(
    variant: str,
    *,
    quantiser: str,
    tokens: tuple[tuple[int, ...], ...] = ((1,), (3,), (2, 2)),
    base_dtypes: tuple[str, ...] = ("float32", "bfloat16"),
) -> st.SearchStrategy[QuantisedLayer]:
    """Fresh and trained adapters on what the quantisers take: no single vectors, no empty batches."""
    # No quantiser takes a layer that is turned.
    ingredients: dict[str, Any] = {"tokens": tokens, "base_dtypes": base_dtypes, "turns": (False,)}
    drawn = st.one_of(trained_layers(variant, **ingredients), adapted_layers(variant, **ingredients))
    # torchao takes a single input for a single scale, bitsandbytes a single byte of two codes for a
    # transposed weight.
    fits = drawn.filter(lambda case: case.linear.d_in > 1 and case.linear.d_in * case.linear.d_out > 2)
    if quantiser == "bitsandbytes 4-bit" and not calibrates_in_place(device()):
        fits = fits.filter(lambda case: not case.calibrated)
    return fits.map(lambda case: QuantisedLayer(**vars(case), quantiser=quantiser))
