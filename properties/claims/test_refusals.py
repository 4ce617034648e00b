"""What cannot work is refused at once, by its name: a setting, a shape, a weight that holds no numbers, one
that overflows.
"""

import re
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import (
    assert_identical,
    assert_nonzero,
    assert_refuses,
    assert_runs,
    assert_within,
)
from properties.judging.claim import claim
from properties.judging.files import scratch_file
from properties.judging.fixed_models import assert_learning, moved, on, simple_config, starts_as_the_base, x
from properties.judging.tolerance import claim_bound
from strategies import LinearRecipe
from strategies.codes import STORED, OnCodes, on_codes
from strategies.options import build_config
from strategies.refusals import Refused, refused


@claim(refused, stage="refusal", subject="lora_lite")
def test_what_cannot_work_is_refused_by_its_name(case: Refused) -> None:
    """Each wrong value of each field, and what cannot work together or on a layer of that shape."""
    alone = f"{case.field}={case.wrong}" if case.wrong else f"{dict(case.options)}"
    tried = f"attach of {case.variant} with {alone} on {case.d_in} → {case.d_out}"
    name = f"^{ll.VARIANTS[case.variant].config_class.__name__}.{case.field}: " if case.field else "^0: "
    with assert_refuses(ll.ConfigError, name, claim=tried):
        config = case.config()
        data = [x(9)] if ll.VARIANTS[case.variant].needs_calibration else None
        ll.attach(nn.Sequential(LinearRecipe(case.d_in, case.d_out).build()), config, data)


@claim(on_codes, stage="refusal", subject="lora_lite")
def test_codes_are_never_read_as_numbers(case: OnCodes) -> None:
    """Variants that need the layer's forward alone work; those that read the weight refuse and name the
    layer.
    """
    model: Any = case.build()
    plain = model(x(3))
    kind, dtype, shape = STORED[case.stored]
    if ll.VARIANTS[case.variant].reads_weight:
        match = rf"^1: Coded: the weight is a {kind.__name__} {re.escape(str(dtype))} {re.escape(str(shape))}"
        tried = f"attach of {case.variant}, which reads the weight, to {case.stored}"
        with assert_refuses(ll.BaseWeightError, match, claim=tried):
            ll.attach(model, simple_config(case.variant))
        return
    adapter = on(model, case.variant)
    twice = model[1](torch.tanh(x(3)), 2.0)
    # The identity, but for rounding.
    bound = claim_bound(2 * plain.abs().amax(), plain.dtype)
    what = "the output at init of a layer called with a second argument"
    if starts_as_the_base(adapter):
        assert_within(twice, 2 * plain, bound, what=what, like="the base's")
    moved(adapter)
    output = model(x(3))
    assert_nonzero(output - plain, what=f"what the moved adapter adds on {case.stored}")
    # Squares: of a plain sum a direction learns nothing that adds up to zero over the outputs, as waves do.
    output.square().sum().backward()
    assert_learning(adapter)
    tried = f"merge into {case.stored}"
    with assert_refuses(ll.BaseWeightError, "^1: merge: Coded holds no plain", claim=tried):
        ll.merge(model)
    what = f"the output after {tried} was refused"
    assert_identical(model(x(3)), output.detach(), what=what, like="as before")


class Flagged(nn.Module):
    """A linear layer whose bias is a mere flag."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features = self.out_features = 4
        self.weight, self.bias = nn.Parameter(torch.eye(4)), True

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.mT


@claim(st.just, stage="refusal", about=("dora",), subject="lora_lite")
def test_a_bias_that_is_a_mere_flag_is_refused(variant: str) -> None:
    """DoRA takes the bias off the output before it scales it; a flag would be taken for a one."""
    match = "^0: Flagged: the bias is True, wanted a tensor or None"
    with assert_refuses(ll.BaseWeightError, match, claim=f"attach of {variant} to a bias that is True"):
        ll.attach(nn.Sequential(Flagged()), simple_config(variant))


@claim(stage="refusal", subject="lora_lite")
def test_a_model_without_its_parameters_is_refused() -> None:
    """A lazy layer has no shape before its first forward, a meta layer has no numbers to tell the base by."""
    lazy = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(4))
    match = "^1.weight: found no shape yet, .* Run one forward"
    with assert_refuses(ll.TargetError, match, claim="attach to a model with a lazy layer"):
        ll.attach(lazy, ll.LoRAConfig(r=2, target_names=("0",)))
    for bias in (True, False):
        meta = nn.Sequential(nn.Linear(4, 4, bias=bias, device="meta"))
        match = "^0: its weight is on the meta device"
        with assert_refuses(ll.BaseWeightError, match, claim="attach to a layer on the meta device"):
            ll.attach(meta, ll.LoRAConfig(r=2))
    beside: Any = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, device="meta"))
    ll.attach(beside, ll.LoRAConfig(r=2, target_names=("0",)))
    match, tried = "^1.weight: found on the meta device", "save beside a layer on the meta device"
    with scratch_file() as path, assert_refuses(ll.BaseWeightError, match, claim=tried):
        ll.save(beside, path)


# What each variant computes of the weight, too large for which dtype at which size of the weight's entries.
OVERFLOWS: dict[str, tuple[tuple[torch.dtype, float], ...]] = {
    "pissa": ((torch.float16, 1e12),),
    "antipasto": ((torch.float16, 1e12),),
    "dora": ((torch.float16, 1e12),),
    "delora": ((torch.float16, 1e12),),
}


@claim(st.just, stage="refusal", about=tuple(OVERFLOWS), subject="lora_lite")
def test_initial_values_that_overflow_are_refused(variant: str) -> None:
    """A base too large for the adapter's dtype: attach refuses, and the base computes as before."""
    layer = nn.Linear(4, 4)
    plain = layer.weight.detach().clone()
    model = nn.Sequential(layer)
    for dtype, size in OVERFLOWS[variant]:
        layer.weight.data.copy_(plain * size)
        before = model(x(3)).detach()
        match, tried = f"0: .* initial values overflow {dtype}", f"attach in {dtype} to weights of {size:g}"
        with assert_refuses(ll.ConfigError, match, claim=tried):
            ll.attach(model, build_config(variant, (("r", 4),), dtype=dtype))
        what = f"the output after {tried} was refused"
        assert_identical(model(x(3)).detach(), before, what=what, like="as before")
        wider = torch.float64 if dtype == torch.float32 else torch.float32
        with assert_runs(f"attach in {wider}, as the error says,"):
            ll.attach(model, build_config(variant, (("r", 4),), dtype=wider)).detach()


@claim(st.just, stage="refusal", about=("delora",), subject="lora_lite")
def test_a_strength_of_delora_that_overflows_is_refused(variant: str) -> None:
    """By the config, before any layer is seen."""
    for dtype, strength in ((torch.float16, 7e4), (torch.float32, 2e19), (torch.float32, 1e-20)):
        match, tried = f"lambda_init: found .* for {dtype}", f"lambda_init={strength:g} in {dtype}"
        with assert_refuses(ll.ConfigError, match, claim=tried):
            build_config(variant, (("lambda_init", strength),), dtype=dtype)


@claim(st.just, stage="refusal", about=("hra",), subject="lora_lite")
def test_a_line_is_not_reflected(variant: str) -> None:
    """A reflection of one input is −1 whatever its row is, and has no gradient: such a layer is refused."""
    with assert_refuses(
        ll.ConfigError, "d_in = 1, wanted 2 or more", claim="attach to a layer with one input"
    ):
        ll.attach(nn.Sequential(nn.Linear(1, 3)), ll.HRAConfig(r=2))


def empty(d_in: int, d_out: int) -> nn.Linear:
    """Without torch's warning that there is nothing to initialise."""
    layer = nn.Linear(1, 1)
    layer.in_features, layer.out_features = d_in, d_out
    layer.weight, layer.bias = nn.Parameter(torch.empty(d_out, d_in)), nn.Parameter(torch.empty(d_out))
    return layer


@claim(st.just, stage="refusal", needs=("no data",), subject="lora_lite")
def test_layers_that_hold_no_real_numbers_are_refused(variant: str) -> None:
    """Complex ones, of which half would be lost, and layers without an input or an output."""
    for layer, match in (
        (nn.Linear(4, 4, dtype=torch.complex64), "^0: its weight is torch.complex64, wanted real"),
        (empty(0, 4), "^0: it is a layer 0 → 4, wanted an input and an output"),
        (empty(4, 0), "^0: it is a layer 4 → 0, wanted an input and an output"),
    ):
        with assert_refuses(ll.BaseWeightError, match, claim=f"attach to {layer}"):
            ll.attach(nn.Sequential(layer), simple_config(variant))
