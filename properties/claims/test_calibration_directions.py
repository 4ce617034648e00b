"""What calibration finds: each layer's own directions over every token of every batch, and ranks by what they
explain.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.calibration import InputMoments
from properties.judging.assertions import assert_holds, assert_runs, assert_within
from properties.judging.calibrating import batches, two_layers
from properties.judging.claim import claim
from properties.judging.tolerance import CLAIM_SAFETY
from properties.subjects import subject
from properties.subjects.attaching import seed_inits
from properties.subjects.protocol import Case
from strategies.calibration import Calibrated, calibrations
from strategies.options import build_config, simplest

D = torch.float64
EPS = torch.finfo(D).eps


def calibrated(model: nn.Module, case: Case) -> dict[str, dict[str, Tensor]]:
    """Every adapter tensor by layer and name, right after attach."""
    with assert_runs("attach with calibration data"):
        subject.attach(model, case)
    return {
        layer: {name: tensor.detach() for name, tensor in own.items()}
        for layer, own in subject.tensors(model).items()
    }


def ranks_of(got: Mapping[str, dict[str, Tensor]]) -> dict[str, int]:
    return {name: len(tensors["A"]) for name, tensors in got.items()}


# What calibration should find, from all inputs at once.


def spectrum(x: Tensor) -> tuple[Tensor, Tensor]:
    """Variances × tokens, largest first, and the directions as rows: of the centred inputs, by their
    own SVD.
    """
    _, S, Vh = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return S.square(), Vh


def shares(inputs: Mapping[str, Tensor], most: int) -> dict[str, list[float]]:
    """Each layer's leading shares of its own variance, as many as it may have ranks."""
    found = {name: spectrum(x)[0] for name, x in inputs.items()}
    return {name: (variance / variance.sum()).tolist()[:most] for name, variance in found.items()}


def wanted_ranks(shared: Mapping[str, list[float]], r: int) -> dict[str, int]:
    """peft's rule: each layer's first round(r · rho) shares of explained variance compete for r × layers
    places. Layers without a rank are left out.
    """
    bar = sorted((share for of_layer in shared.values() for share in of_layer), reverse=True)
    least = bar[r * len(shared) - 1]
    ranks = {name: sum(share >= least for share in of_layer) for name, of_layer in shared.items()}
    return {name: rank for name, rank in ranks.items() if rank}


def check_directions(layer: str, A: Tensor, x: Tensor) -> None:
    """Each row of A spans the same line as the principal direction of x at its place, up to rounding over its
    gap.
    """
    variance, directions = spectrum(x)
    gap = torch.full((len(A),), torch.inf, dtype=D)
    for i in range(len(A)):
        others = torch.cat((variance[:i], variance[i + 1 :]))
        gap[i] = (others - variance[i]).abs().min()
    error = CLAIM_SAFETY * len(variance) * EPS * moved_by_rounding(x, variance) / gap
    cosines = (A * directions[: len(A)]).sum(-1, keepdim=True)
    wanted = directions[: len(A)] * cosines.sign()
    like = "the principal directions of all its inputs"
    assert_within(A, wanted, error[:, None].expand_as(A), what=f"A of layer {layer}", like=like)
    peaks = A.gather(1, A.abs().argmax(1, keepdim=True)).flatten()
    found = f"the largest entries of the rows of A of layer {layer} are {peaks.tolist()}, wanted positive"
    assert_holds(bool((peaks > 0).all()), claim=found)


def moved_by_rounding(x: Tensor, variance: Tensor) -> Tensor:
    """How large what second moments in float64 may be off by is, in eps: what flowed into them, uncentred
    tokens included.
    """
    return x.square().sum().sqrt() * variance[0].sqrt() + variance[0]


@claim(calibrations, stage="calibration", share=0.5, needs=("shared ranks",), subject="lora_lite")
def test_principal_directions_are_those_of_all_tokens(case: Calibrated) -> None:
    """Centred, over every batch, in each layer's own inputs; ranks as peft's rule gives them, alpha / r as
    configured.
    """
    inputs, model, r = case.inputs(), case.build(), case.option["r"]
    shared = shares(inputs, round(r * case.option["rho"]))
    wanted = wanted_ranks(shared, r)
    got = calibrated(model, case)
    found = ranks_of(got)
    rounded = {name: [round(share, 4) for share in own] for name, own in shared.items()}
    told = f"the ranks are {found}, wanted {wanted}, as the shares of explained variance are {rounded}"
    assert_holds(found == wanted, claim=told)
    (adapter,) = ll.adapters_of(model)
    for name, tensors in got.items():
        check_directions(name, tensors["A"], inputs[name])
        scale = adapter.layers()[name].scale
        found_scale = f"alpha / r of layer {name} is {scale}, wanted the config's {adapter.config.scale}"
        assert_holds(abs(scale / adapter.config.scale - 1) < 4 * EPS, claim=found_scale)


@claim(calibrations, stage="calibration", share=0.3, needs=("shared ranks",))
def test_ranks_keep_the_total_budget(case: Calibrated) -> None:
    """r × layers in all, at most round(r · rho) each; r everywhere with rho = 1."""
    r, rho = case.option["r"], case.option["rho"]
    got = ranks_of(calibrated(case.build(), case))
    found, most = f"the ranks at r = {r}, rho = {rho} are {got}", round(r * rho)
    assert_holds(sum(got.values()) == 3 * r, claim=f"{found}, wanted {3 * r} in all")
    assert_holds(max(got.values()) <= most, claim=f"{found}, wanted {most} at most")
    if rho == 1:
        assert_holds(set(got.values()) == {r}, claim=f"{found}, wanted {r} each")


@claim(calibrations, stage="calibration", share=0.5, needs=("optional calibration",))
def test_singular_directions_are_chosen_by_their_use(case: Calibrated) -> None:
    """Those with the largest S_i · mean|x · v_i| over all tokens, strongest first."""
    inputs, model, r = case.inputs(), case.build(), case.option["r"]
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, tensors in calibrated(model, case).items():
        U, S, Vh = torch.linalg.svd(weights[f"{name}.weight"])
        use = S * (inputs[name] @ Vh.mT).abs().mean(0)
        chosen = use.argsort(descending=True)[:r]
        error = CLAIM_SAFETY * EPS * S[0]
        what, like = f"S of layer {name}", "the singular values that its inputs use most"
        assert_within(tensors["S"], S[chosen], error, what=what, like=like)
        triplets, wanted = (
            (tensors["U"] * tensors["S"]) @ tensors["Vh"],
            (U[:, chosen] * S[chosen]) @ Vh[chosen],
        )
        what, like = f"U S Vh of layer {name}", "the part of the weight that its inputs use most"
        assert_within(triplets, wanted, error * 8, what=what, like=like)


@claim(calibrations, stage="calibration", share=0.5, needs=("calibration",))
def test_calibration_does_not_depend_on_batches(case: Calibrated) -> None:
    """The same tokens in one batch, in one-token batches or as drawn give the same adapter, to float64
    rounding.
    """
    seed_inits(case.seed)
    got = calibrated(case.build(), case)
    inputs, count = case.inputs(), sum(case.batches)
    for name, sizes in (("in one batch", (count,)), ("in batches of one token", (1,) * count)):
        seed_inits(case.seed)
        other = calibrated(case.build(), replace(case, batches=sizes))
        like = f"what it is with the same tokens in batches of {case.batches}"
        found = (
            f"with the tokens {name} attach adapted {list(other)}, in batches of {case.batches} {list(got)}"
        )
        assert_holds(list(got) == list(other), claim=found)
        for layer, tensors in got.items():
            for tensor in tensors.keys() & {"A", "U", "S", "Vh"}:
                wanted = tensors[tensor]
                bound = sensitivity(inputs[layer], len(wanted)) if tensor == "A" else CLAIM_SAFETY * EPS
                what = f"{tensor} of layer {layer} with the tokens {name}"
                assert_within(other[layer][tensor], wanted, bound, what=what, like=like)


def sensitivity(x: Tensor, r: int) -> float:
    """How far rounding may turn the first r principal directions of x: by their smallest gap."""
    variance, _ = spectrum(x)
    gap = (variance[:-1] - variance[1:])[:r].min()
    return float(CLAIM_SAFETY * len(variance) * EPS * moved_by_rounding(x, variance) / gap)


# Data made so that it is known what each of two layers gets.


def two_ranks(model: nn.Module, variant: str, *tokens: int, **options: Any) -> dict[str, int]:
    """The rank of each adapted layer, with these settings and as many random tokens."""
    config = build_config(variant, tuple({**dict(simplest(variant)), **options}.items()))
    with assert_runs(f"attach with {options}"):
        ll.attach(model, config, batches(*tokens))
    return {name: len(own["A"]) for name, own in subject.tensors(model).items()}


@claim(st.just, stage="calibration", needs=("shared ranks",), subject="lora_lite")
def test_a_layer_without_ranks_is_left_alone(variant: str) -> None:
    """All the budget of r = 1 on two layers goes where it explains most; the other layer is no target."""
    model: Any = nn.Sequential(two_layers(), nn.Identity())
    two = torch.tensor([3.0, 2.9, 0, 0, 0, 0, 0, 0])
    model[0].forward = lambda x: model[0].sharp(x * two) + model[0].flat(x)
    found = two_ranks(model, variant, 64, r=1, rho=2, alpha=3)
    assert_holds(found == {"0.sharp": 2}, claim=f"the ranks are {found}, wanted 2 of 0.sharp alone")
    left = [*model[0].flat.children(), *model[0].flat._forward_hooks]
    assert_holds(left == [], claim=f"the layer that got no rank carries {left}")
    scale = ll.adapters_of(model)[0].layers()["0.sharp"].scale
    assert_holds(scale == 3.0, claim=f"alpha / r of 0.sharp is {scale}, wanted the config's 3.0")


@claim(st.just, stage="calibration", needs=("shared ranks",), subject="lora_lite")
def test_a_narrow_layer_gets_no_more_ranks_than_it_has_outputs(variant: str) -> None:
    """Three directions hold all its variance, two fit: the budget left over goes to the other one."""
    model = two_layers()
    model.sharp = nn.Linear(8, 2)
    model.forward = lambda x: model.sharp(x * (torch.arange(8) < 3)).sum() + model.flat(x)
    found = two_ranks(model, variant, 1000, r=2, rho=2)
    told = f"the ranks at r = 2, rho = 2 are {found}, wanted 2 of sharp, which has two outputs, and 2 of flat"
    assert_holds(found == {"sharp": 2, "flat": 2}, claim=told)


@claim(st.just, stage="calibration", needs=("shared ranks",), subject="lora_lite")
def test_a_layer_gets_up_to_r_times_rho_ranks(variant: str) -> None:
    """Rounded to the nearest: 3 · 1.25 is 4 at most. Variance in six directions beats the same in eight."""
    model = two_layers()
    six = (torch.arange(8) < 6).float()
    model.forward = lambda x: model.sharp(x * six) + model.flat(x)
    for rho, wanted in ((1, (3, 3)), (1.25, (4, 2)), (1.4, (4, 2)), (1.5, (4, 2)), (2, (6, 0))):
        got = two_ranks(model, variant, 1000, r=3, rho=rho)
        found = tuple(got.get(name, 0) for name in ("sharp", "flat"))
        told = f"the ranks of sharp and flat at r = 3, rho = {rho} are {found}, wanted {wanted}"
        assert_holds(found == wanted, claim=told)
        ll.detach(model)


@claim(stage="calibration", subject="lora_lite")
def test_moments_of_unequal_batches_are_those_of_all_tokens() -> None:
    """Batches of other lengths and far apart: what joins them is most of the answer."""
    torch.manual_seed(0)
    batches = [torch.randn(n, 3, dtype=torch.float64) + mean for n, mean in ((1, 0.0), (5, 10.0), (2, -30.0))]
    moments, seen = InputMoments(3), torch.empty(0, 3, dtype=torch.float64)
    for batch in batches:
        moments.update(batch)
        seen = torch.cat([seen, batch])
        off = seen - seen.mean(0)
        wanted = off.mT @ off
        bound = 100 * torch.finfo(torch.float64).eps * (seen.mT @ seen).abs().max()
        assert moments.scatter is not None
        what = f"moments of {len(seen)} tokens"
        assert_within(moments.scatter, wanted, bound, what=what)
        largest = torch.linalg.eigvalsh(wanted).max()
        assert_within(moments.principal()[0][0], largest, bound, what=f"the largest of the {what}")
