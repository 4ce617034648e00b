"""Real quantised bases: what their codes mean is read through the quantiser, and every variant works on them
by its formula.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.fingerprint import fingerprint
from lora_lite.linear import read_weight
from properties.judging.agreement import assert_agrees, assert_loaded, round_trip
from properties.judging.assertions import (
    assert_equal,
    assert_holds,
    assert_identical,
    assert_refuses,
    assert_runs,
    assert_within,
)
from properties.judging.claim import claim
from properties.judging.tolerance import claim_bound
from properties.subjects import subject
from properties.subjects.attaching import Attached, attach
from properties.subjects.layer_runs import Layer, default_run, run_layers
from strategies import QuantisedLayer, gaussian, quantised_layers
from strategies.quantised import bitsandbytes, four_bit, torchao

# inductor's own, where torchao imports it.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")

WEIGHT = gaussian(0, "weight", (16, 32))


def codes_times_scales(layer: Any) -> Tensor:
    """The weight that the codes mean, by the formats' own definition."""
    if (quantised := getattr(layer.weight, "quant_state", None)) is not None:
        return table_times_scales(layer.weight, quantised)
    if (state := getattr(layer, "state", None)) is None:
        return layer.weight.detach().dequantize().double()  # type: ignore[no-any-return]
    own = layer.weight if state.CB is None else state  # bitsandbytes moves them at the first forward
    return own.CB.double() * own.SCB.double()[:, None] / 127  # type: ignore[no-any-return]


def table_times_scales(packed: Tensor, state: Any) -> Tensor:
    """Two codes a byte, the high one first; what each means lies in a table, and counts times the largest of
    its block.
    """
    codes = torch.stack((packed.data >> 4, packed.data & 15), dim=-1).flatten()[: state.shape.numel()]
    # The scales are codes of one byte, with a table and scales of their own, and an offset that nearly
    # cancels the small ones: in the engine's float32, whose rounding is then a part of what the codes mean.
    inner = state.state2
    wide = inner.absmax.repeat_interleave(inner.blocksize)[: len(state.absmax)]
    absmax = inner.code[state.absmax.long()] * wide + state.offset
    scales = absmax.double().repeat_interleave(state.blocksize)[: len(codes)]
    return (state.code.double()[codes.long()] * scales).reshape(state.shape)  # type: ignore[no-any-return]


def holding(weight: Tensor, quantise: Callable[[nn.Linear], nn.Module] = bitsandbytes) -> nn.Sequential:
    """A bitsandbytes layer that holds this weight."""
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    plain.weight = nn.Parameter(weight)
    return nn.Sequential(quantise(plain))


@claim(stage="engine", needs=("bitsandbytes",), subject="lora_lite")
def test_an_eight_bit_weight_is_read_as_numbers() -> None:
    """And not as integer codes, which are 1,000 times too large."""
    read = read_weight(holding(WEIGHT)[0])
    spacing = WEIGHT.abs().amax(dim=1, keepdim=True) / 127
    what, like = "the weight read from 8 bits", "within a code of the original"
    assert_within(read, WEIGHT, spacing.double().expand_as(WEIGHT), what=what, like=like)


@claim(stage="refusal", needs=("bitsandbytes",), subject="lora_lite")
def test_eight_bits_without_scales_are_refused() -> None:
    """As a checkpoint leaves them that lost its SCB: codes alone are no weight."""
    layer: Any = holding(WEIGHT)[0]
    layer.weight.SCB = None
    match = r"Linear8bitLt: the weight is a Int8Params torch\.int8 \(16, 32\), wanted floating-point numbers"
    with assert_refuses(ll.BaseWeightError, match, claim="reading codes of 8 bits without their scales"):
        read_weight(layer)


@claim(stage="engine", needs=("bitsandbytes",), subject="lora_lite")
def test_a_four_bit_weight_is_read_as_numbers() -> None:
    """What table and scales say, and those are within a code of the original."""
    # As wide as a block: the CPU kernel of bitsandbytes 0.50.2 gives narrower rows the scales of other
    # blocks.
    weight = WEIGHT.reshape(8, 64)
    layer, largest = holding(weight, four_bit)[0], weight.abs().amax(1, keepdim=True)
    bound = claim_bound(float(largest.max()), torch.float32)
    what, meant = "the weight read from 4 bits", codes_times_scales(layer)
    assert_within(read_weight(layer), meant, bound, what=what, like="what table and scales say")
    spacing = (largest / 6).expand_as(weight)
    what, like = "what table and scales of 4 bits say", "within a code of the original"
    assert_within(meant, weight, spacing, what=what, like=like)


@claim(stage="engine", needs=("bitsandbytes",), subject="lora_lite")
def test_a_fingerprint_tells_scales_apart() -> None:
    """W and 8 W have the same codes; and a forward, which moves the scales elsewhere, changes nothing."""
    for quantise in (bitsandbytes, four_bit):
        model = holding(WEIGHT, quantise)
        before = fingerprint(model)
        other = fingerprint(holding(8 * WEIGHT, quantise))
        found = f"{quantise.__name__}: two bases that differ in their scales have the same fingerprint"
        assert_holds(before != other, claim=found)
        model(torch.ones(1, 32))
        found = f"{quantise.__name__}: a forward changed the fingerprint of the base"
        assert_holds(fingerprint(model) == before, claim=found)


@claim(stage="engine", needs=("bitsandbytes",), subject="lora_lite")
def test_a_fingerprint_tells_offsets_apart() -> None:
    """The scales of 4 bits are kept less their mean, which is a Python number beside the tensors."""
    weight = WEIGHT.reshape(8, 64)
    largest = weight.abs().amax(1, keepdim=True)
    near, far = (holding(weight * (1 + shift / largest), four_bit) for shift in (1, 5))
    layers: list[Any] = [near[0], far[0]]
    states = [layer.weight.quant_state.as_dict() for layer in layers]
    tensors = [[value for value in state.values() if isinstance(value, Tensor)] for state in states]
    same = [torch.equal(a, b) for a, b in zip(*tensors, strict=True)]
    found = "two 4-bit weights made to differ in the offset of their scales alone differ in their tensors"
    assert_holds(all(same), claim=found)
    found = "two 4-bit bases that differ in the offset of their scales have the same fingerprint"
    assert_holds(fingerprint(near) != fingerprint(far), claim=found)


@claim(stage="engine", needs=("bitsandbytes",), subject="lora_lite")
def test_a_subclass_of_a_quantised_layer_is_read_as_its_parent() -> None:
    """A layer class of the user's own, in a module of the user's own."""
    for quantise in (bitsandbytes, four_bit):
        layer, other = (holding(factor * WEIGHT.reshape(8, 64), quantise)[0] for factor in (1, 8))
        wanted = read_weight(layer)
        for made in (layer, other):
            made.__class__ = type("Own", (type(made),), {})
        kind = quantise.__name__
        with assert_runs(f"reading the weight of a subclass of the layer of {kind}"):
            read = read_weight(layer)
        what = f"the weight read from a subclass of the layer of {kind}"
        assert_identical(read, wanted, what=what, like="the one read from its parent")
        prints = [fingerprint(nn.Sequential(made)) for made in (layer, other)]
        found = f"{kind}: two subclasses that differ in their scales have the same fingerprint"
        assert_holds(prints[0] != prints[1], claim=found)


@claim(stage="merge", needs=("bitsandbytes",), subject="lora_lite")
def test_merge_into_eight_bits_is_refused() -> None:
    """By the name and the class of the layer."""
    ll.attach(model := holding(WEIGHT), ll.LoRAConfig(r=2))
    match = "0: merge: Linear8bitLt holds no plain"
    with assert_refuses(ll.BaseWeightError, match, claim="merge into a layer of 8 bits"):
        ll.merge(model)


def run_quantised(attached: Attached) -> Layer:
    """run_layers(), with the weight as numbers and what the base's own rounding added."""
    base: Any = attached.model[0]  # type: ignore[index]
    seen: dict[str, Tensor] = {}
    # Next to the base: after the adapter's own pre-hook, before its hook.
    base.register_forward_pre_hook(lambda layer, args: seen.update(x=args[0].detach().double()))
    base.register_forward_hook(lambda layer, args, y: seen.update(y=y.detach().double()), prepend=True)
    (layer,) = run_layers(attached)
    layer.weight = codes_times_scales(base).to(attached.case.base_dtype)  # type: ignore[union-attr]
    bias = None if layer.bias is None else layer.bias.double()
    layer.base_error = seen["y"] - torch.nn.functional.linear(seen["x"], layer.weight.double(), bias)
    return layer


def check_quantised(case: QuantisedLayer) -> None:
    """Output and gradients by the oracle, identity at init, save and load, and the base as it was."""
    # bitsandbytes compiles what unpacks its four bits, for every shape anew: a third of a second a case, and
    # nothing of ours. Not as a decorator, which would import the compiler whatever runs.
    with torch.compiler.set_stance("force_eager"):
        check_in_eager_mode(case)


def check_in_eager_mode(case: QuantisedLayer) -> None:
    """What check_quantised says."""
    base: Any = case.build()
    plain, meant = base(case.x()).detach(), codes_times_scales(base[0])
    layer = run_quantised(attached := attach(case))
    assert_agrees(layer)
    if not case.trained and subject.identity(case) == "exact":
        assert_equal(layer.y.detach(), plain, what="the output at init", like="the base's")
    assert_loaded(round_trip(attached.model, base), subject.tensors(attached.model))
    what = "the output after load"
    assert_identical(default_run(case)(base), layer.y.detach(), what=what, like="that before save")
    adapted: Any = attached.model
    what = "the weight that the codes mean, under an adapter that ran,"
    assert_identical(codes_times_scales(adapted[0]), meant, what=what, like="as before attach")


@claim(
    partial(quantised_layers, quantiser="bitsandbytes"),
    stage="engine",
    share=0.2,
    needs=("bitsandbytes",),
    capability="8-bit",
)
def test_an_adapter_on_bitsandbytes_agrees_with_the_oracle(case: QuantisedLayer) -> None:
    """Eight bits: codes for the weight and for the input."""
    check_quantised(case)


@claim(
    partial(quantised_layers, quantiser="bitsandbytes 4-bit"),
    stage="engine",
    share=0.2,
    needs=("bitsandbytes", "data after quantising"),
    capability="4-bit",
)
def test_an_adapter_on_four_bits_agrees_with_the_oracle(case: QuantisedLayer) -> None:
    """Two codes a byte for the weight, computed in floats."""
    check_quantised(case)


@claim(
    partial(quantised_layers, quantiser="torchao"),
    stage="engine",
    share=0.2,
    needs=("torchao",),
    capability="int8",
)
def test_an_adapter_on_torchao_agrees_with_the_oracle(case: QuantisedLayer) -> None:
    """Eight bits for the weight, computed in floats."""
    check_quantised(case)


@claim(stage="load", needs=("torchao",), subject="lora_lite")
def test_a_fingerprint_tells_the_numbers_of_torchao_apart() -> None:
    """Its codes and its scales, one at a time: W, a W with other codes, and 8 W with the same ones."""
    weight = gaussian(0, "weight", (16, 32))
    other = weight.clone()
    other[3, 5] = -other[3, 5]
    found = []
    for numbers in (weight, other, 8 * weight):
        plain = nn.Linear(32, 16, bias=False)
        plain.weight = nn.Parameter(numbers)
        found.append(fingerprint(nn.Sequential(torchao(plain)))["0.weight"])
    assert_holds(len(set(found)) == 3, claim=f"torchao: three bases have the fingerprints {found}")
