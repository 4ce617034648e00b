"""A real quantised base: what its codes mean is read through the quantiser, and belongs to the fingerprint."""

from typing import Any

import pytest
import torch
from torch import nn

import lora_lite as ll
from lora_lite.checkpoint import fingerprint
from lora_lite.linear import read_weight
from properties.assertions import assert_holds, assert_refuses
from strategies import gaussian

WEIGHT = gaussian(0, "weight", (16, 32))


def eight_bit(weight: torch.Tensor) -> nn.Sequential:
    """A bitsandbytes Linear8bitLt that holds this weight."""
    nn_8bit = pytest.importorskip("bitsandbytes", reason="pip install '.[peers]' brings bitsandbytes").nn
    layer: Any = nn_8bit.Linear8bitLt(weight.shape[1], weight.shape[0], bias=False, has_fp16_weights=False)
    layer.load_state_dict({"weight": weight})
    return nn.Sequential(layer.to("cpu"))


def test_an_eight_bit_weight_is_read_as_numbers() -> None:
    """And not as integer codes, which are 1,000 times too large."""
    read = read_weight(eight_bit(WEIGHT)[0])
    spacing = WEIGHT.abs().amax(dim=1, keepdim=True) / 127
    assert_holds(
        bool(((read - WEIGHT).abs() <= spacing).all()), claim="the weight read from 8 bits is within a code of the original"
    )


def test_a_fingerprint_tells_scales_apart() -> None:
    """W and 8 W have the same codes; and a forward, which moves the scales elsewhere, changes nothing."""
    model = eight_bit(WEIGHT)
    before = fingerprint(model)
    assert_holds(before != fingerprint(eight_bit(8 * WEIGHT)), claim="two bases with other scales have one fingerprint")
    model(torch.ones(1, 32))
    assert_holds(fingerprint(model) == before, claim="a forward changed the fingerprint of an 8-bit base")


def test_merge_into_eight_bits_is_refused() -> None:
    ll.attach(model := eight_bit(WEIGHT), ll.LoRAConfig(r=2))
    with assert_refuses(ll.BaseWeightError, "0: merge: Linear8bitLt holds no plain", claim="merge into 8 bits"):
        ll.merge(model)
