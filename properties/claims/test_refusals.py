"""What cannot work is refused at once, by its name: a setting, a shape, a stranger's config, a weight that
holds no numbers.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import (
    assert_holds,
    assert_identical,
    assert_nonzero,
    assert_refuses,
    assert_runs,
    assert_within,
)
from properties.judging.claim import claim
from properties.judging.files import saved, scratch_file
from properties.judging.fixed_models import Stack, assert_learning, moved, on, simple_config, x
from properties.judging.tolerance import claim_bound
from strategies import LinearRecipe, gaussian
from strategies.refusals import Refused, refused


@claim(refused, stage="refusal")
def test_what_cannot_work_is_refused_by_its_name(case: Refused) -> None:
    """Each wrong value of each field, and what cannot work together or on a layer of that shape."""
    found = (
        f"{case.field} is {case.wrong}"
        if case.wrong
        else f"{dict(case.options)} on {case.d_in} → {case.d_out}"
    )
    name = f"^{ll.VARIANTS[case.variant].config_class.__name__}.{case.field}: " if case.field else "^0: "
    with assert_refuses(ll.ConfigError, name, claim=found):
        config = case.config()
        data = [x(9)] if ll.VARIANTS[case.variant].needs_calibration else None
        ll.attach(nn.Sequential(LinearRecipe(case.d_in, case.d_out).build()), config, data)


@dataclass(frozen=True, kw_only=True)
class Borrowed(ll.AdapterConfig):
    """A class that has no more of a variant than its name."""

    variant: ClassVar[str] = "lora"


@claim(stage="refusal")
def test_a_config_that_borrows_a_name_is_refused() -> None:
    match = "Borrowed is not the config of a registered variant"
    with assert_refuses(ll.ConfigError, match, claim="a config class of our own with variant = 'lora'"):
        ll.attach(nn.Linear(4, 4), Borrowed())


@claim(stage="attach")
def test_finite_weights_are_taken_however_large() -> None:
    """Their sum overflows, they do not."""
    model = nn.Sequential(nn.Linear(4, 4))
    with torch.no_grad():
        model[0].weight.fill_(3e38)  # type: ignore[operator]  # a tensor
    on(model, "lora")


# Weights whose numbers cannot be had.


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


def on_codes(variant: str) -> st.SearchStrategy[OnCodes]:
    return st.builds(OnCodes, st.just(variant), st.sampled_from(tuple(STORED)))


@claim(on_codes, stage="refusal")
def test_codes_are_never_read_as_numbers(case: OnCodes) -> None:
    """Variants that need the layer's forward alone work; those that read the weight refuse and name the
    layer.
    """
    model = nn.Sequential(nn.Tanh(), Coded(case.stored))
    plain = model(x(3))
    kind, dtype, shape = STORED[case.stored]
    if ll.VARIANTS[case.variant].reads_weight:
        match = rf"^1: Coded: the weight is a {kind.__name__} {re.escape(str(dtype))} {re.escape(str(shape))}"
        with assert_refuses(ll.BaseWeightError, match, claim=case.stored):
            ll.attach(model, simple_config(case.variant))
        return
    adapter = on(model, case.variant)
    twice = model[1](torch.tanh(x(3)), 2.0)
    # The identity, but for rounding.
    bound = claim_bound(2 * plain.abs().amax(), plain.dtype)
    assert_within(twice, 2 * plain, bound, what="the output of a layer called with a second argument")
    moved(adapter)
    output = model(x(3))
    assert_nonzero(output - plain, what=f"what the moved adapter adds to {case.stored}")
    output.sum().backward()
    assert_learning(adapter)
    with assert_refuses(ll.BaseWeightError, "^1: merge: Coded holds no plain", claim="merge"):
        ll.merge(model)
    assert_identical(model(x(3)), output.detach(), what="the output after a refused merge")


class Named(nn.Module):
    """A linear layer that calls its input x, takes a second argument, and has a bias of another kind than
    most.
    """

    def __init__(self, **bias: Any) -> None:
        super().__init__()
        self.in_features = self.out_features = 4
        self.weight = nn.Parameter(gaussian(0, "weight", (4, 4)))
        for name, value in bias.items():
            setattr(self, name, value)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        return x @ self.weight.mT * gain


@claim(st.just, stage="forward")
def test_a_layer_that_calls_its_input_x_is_adapted(variant: str) -> None:
    """By position and by keyword, beside another argument; such a layer need not have a bias."""
    layer: Any = Named()
    plain = layer(x(3), 2.0).detach()
    moved(on(nn.Sequential(layer), variant))
    wanted = layer(x(3), 2.0).detach()
    assert_nonzero(wanted - plain, what="what the moved adapter adds")
    for given in ({"x": x(3), "gain": 2.0}, {"gain": 2.0, "x": x(3)}):
        with assert_runs(what := f"a call by {', '.join(given)}"):
            got = layer(**given)
        assert_identical(got, wanted, what=f"the output of {what}")


@claim(stage="refusal")
def test_a_bias_that_is_a_mere_flag_is_refused() -> None:
    """DoRA takes the bias off the output before it scales it; a flag would be taken for a one."""
    match = "^0: Named: the bias is True, wanted a tensor or None"
    with assert_refuses(ll.BaseWeightError, match, claim="dora on a bias that is True"):
        ll.attach(nn.Sequential(Named(bias=True)), ll.DoRAConfig(r=2))


@claim(stage="refusal")
def test_a_model_without_its_parameters_is_refused() -> None:
    """A lazy layer has no shape before its first forward, a meta layer has no numbers to tell the base by."""
    lazy = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(4))
    with assert_refuses(
        ll.TargetError, "^1.weight: found no shape yet, .* Run one forward", claim="attach on a lazy layer"
    ):
        ll.attach(lazy, ll.LoRAConfig(r=2, target_names=("0",)))
    ll.attach(meta := nn.Sequential(nn.Linear(4, 4, device="meta")), ll.LoRAConfig(r=2))
    with assert_runs("an adapted layer on meta"):
        meta(x(3).to("meta"))
    match = "^0.weight: found on the meta device"
    with scratch_file() as path, assert_refuses(ll.BaseWeightError, match, claim="save on meta"):
        ll.save(meta, path)


@claim(stage="save")
def test_an_adapter_that_diverged_is_not_saved() -> None:
    """And the file that was there before stays."""
    adapter = on(model := Stack(), "lora")
    with saved(model) as path:
        whole = path.read_bytes()
        with torch.no_grad():
            dict(adapter.named_parameters())["second.B"][0, 0] = torch.nan
        with assert_refuses(
            ll.CheckpointError, "^second.B: found NaN or Inf", claim="save of an adapter with NaN"
        ):
            ll.save(model, path)
        assert_holds(path.read_bytes() == whole, claim="a refused save changed the file")


@claim(stage="refusal")
def test_one_batch_is_not_taken_for_many() -> None:
    """A tensor would be a batch a row, and a mapping its own names."""
    for data in (x(9), {"input": x(9)}):
        match = f"found one {type(data).__name__}, wanted batches. Put it in a list"
        with assert_refuses(ll.CalibrationError, match, claim="a batch in no list"):
            ll.attach(nn.Sequential(nn.Linear(4, 4)), ll.EVAConfig(r=2), data)


@claim(stage="save")
def test_an_adapter_of_two_dtypes_is_not_saved() -> None:
    """A part of it was cast: load would refuse the file, when what was trained is gone."""
    adapter = on(model := Stack(), "lora")
    adapter.layers()["second"].bfloat16()
    match = "^second: tensor A is torch.bfloat16, wanted torch.float32"
    with scratch_file() as path, assert_refuses(ll.CheckpointError, match, claim="save"):
        ll.save(model, path)


@claim(stage="attach")
def test_an_adapter_is_built_where_its_layers_buffers_are() -> None:
    """A linear-like layer may keep its weight in a buffer."""
    adapter = ll.attach(nn.Sequential(Coded("integer codes").to("meta")), ll.LoRAConfig(r=1))
    devices = {parameter.device.type for parameter in adapter.parameters()}
    assert_holds(devices == {"meta"}, claim=f"the adapter of a layer with buffers on meta lies on {devices}")
