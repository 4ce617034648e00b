"""What calibration asks of its data, and what it leaves of the model: nothing behind, whether it works or is
refused.
"""

from collections.abc import Iterator
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import (
    assert_all_identical,
    assert_holds,
    assert_refuses,
    assert_runs,
)
from properties.judging.calibrating import batches, two_layers
from properties.judging.claim import claim
from properties.judging.fixed_models import Simple, simple_config, simple_options, x
from properties.judging.snapshot import assert_as_before, snapshot_of
from properties.subjects import subject
from properties.subjects.attaching import seed_inits
from strategies.calibration import Calibrated, calibrations
from strategies.options import build_config


@claim(calibrations, stage="calibration", share=0.3, needs=("calibration",))
def test_calibration_leaves_nothing_behind(case: Calibrated) -> None:
    """It runs in eval mode without gradients; flags (mixed ones too), hooks and gradients are as before."""
    model = case.build()
    for i, module in enumerate(model.modules()):
        module.training = (case.seed >> i) % 2 == 1
    before = snapshot_of(model)
    with assert_runs("attach with calibration data"):
        subject.attach(model, case)
    found = f"the model ran in calibration with (training, gradients) {sorted(model.trained_in)}"
    assert_holds(model.trained_in == {(False, False)}, claim=f"{found}, wanted neither")
    left = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert_holds(not left, claim=f"calibration left gradients on {left}")
    subject.detach(model)
    assert_as_before(model, before, claim="after calibration, and detach of what it made")


NO_TOKEN = "^sharp, flat: no calibration token reached 2 of 2 targets"
LINE = torch.outer(torch.arange(20.0), torch.ones(8))
# By variant, what it cannot do with the data that another one takes.
TOO_FEW: dict[str, tuple[tuple[list[Tensor] | None, dict[str, int], str], ...]] = {
    "eva": (
        (batches(2), {"r": 3}, "^sharp: 2 calibration tokens for 3 components"),
        (batches(1, 2), {"r": 2, "rho": 2}, "^sharp: 3 calibration tokens for 4 components"),
        (batches(3), {"r": 3}, "^sharp: the calibration inputs, centred, have rank 2, wanted 3"),
        ([LINE], {"r": 2}, "^sharp: the calibration inputs, centred, have rank 1, wanted 2"),
        ([torch.ones(9, 8) * 3], {"r": 1}, "have rank 0, wanted 1"),
        (None, {"r": 1}, "eva starts from the layers' inputs. Give attach calibration_data"),
    ),
}


@claim(st.just, stage="calibration", needs=("calibration",), subject="lora_lite")
def test_too_little_data_is_refused(variant: str) -> None:
    """With the numbers that are missing, for tokens and for rank; never an endless loop or an arbitrary
    direction.
    """
    of_all: Any = ((batches(0, 0), {}, NO_TOKEN), ([], {}, "holds no batch"))
    for data, options, match in (*of_all, *TOO_FEW.get(variant, ())):
        config = build_config(variant, tuple({**dict(simple_options(variant, 8)), **options}.items()))
        shapes = None if data is None else [tuple(batch.shape) for batch in data]
        tried = f"attach of {variant} with {options} and calibration batches of shapes {shapes}"
        with assert_refuses(ll.CalibrationError, match, claim=tried):
            ll.attach(two_layers(), config, data)


@claim(st.just, stage="calibration", needs=("calibration",), subject="lora_lite")
def test_data_that_is_not_finite_is_refused_by_the_layer(variant: str) -> None:
    """Hooks and modes are as before, also where the second batch fails."""
    for bad in (torch.nan, torch.inf):
        model = two_layers().train()
        model.flat.eval()
        before = snapshot_of(model)
        match, tried = (
            "^sharp: the calibration data gives NaN or Inf",
            f"attach with {bad} in the second batch",
        )
        with assert_refuses(ll.CalibrationError, match, claim=tried):
            ll.attach(model, simple_config(variant, 8), [*batches(9), torch.full((2, 8), bad)])
        assert_as_before(model, before, claim=f"after {tried} was refused")


@claim(st.just, stage="calibration", needs=("calibration",), subject="lora_lite")
def test_a_generator_gives_its_batches_once(variant: str) -> None:
    """The first pass is as good as a list; on a used-up generator attach says so."""
    first, second = two_layers(), two_layers()
    second.load_state_dict(first.state_dict())
    config = simple_config(variant, 8, dtype=torch.float64)

    given = batches(1, 20, 7)

    def stream() -> Iterator[Tensor]:
        yield from (*given[:2], given[0][:0], given[2])  # an empty one counts for nothing

    once = stream()
    for model, data in ((first, once), (second, given)):
        seed_inits(0)
        with assert_runs("attach with calibration data"):
            ll.attach(model, config, data)
    match, tried = "a generator can be used only once", "attach with a generator that was used up"
    with assert_refuses(ll.CalibrationError, match, claim=tried):
        ll.attach(two_layers(), config, once)
    got, wanted = subject.tensors(first), subject.tensors(second)
    for layer, tensors in wanted.items():
        what = f"the adapter of layer {layer}, calibrated from a generator,"
        assert_all_identical(got[layer], tensors, what=what, like="what a list of the same batches gives")


@claim(st.just, stage="calibration", needs=("calibration",), subject="lora_lite")
def test_a_target_that_no_data_reaches_is_refused(variant: str) -> None:
    """By its name; left out of the targets, it is in nobody's way."""
    model: Any = two_layers()
    model.unused = nn.Linear(8, 8)
    match, tried = "^unused: no calibration token reached 1 of 3 targets", "attach to a layer that never runs"
    with assert_refuses(ll.CalibrationError, match, claim=tried):
        ll.attach(model, simple_config(variant, 8), batches(20))
    with assert_runs("attach without the layer that never runs"):
        ll.attach(model, simple_config(variant, 8, exclude_names=("unused",)), batches(20))


@claim(st.just, stage="calibration", needs=("no calibration",))
def test_variants_that_take_no_data_do_not_look_at_it(variant: str) -> None:
    """A generator of the caller's is as long as before."""
    once = iter(batches(20, width=4))
    subject.attach(nn.Sequential(nn.Linear(4, 4)), Simple(variant, simple_options(variant), once))
    assert_holds(next(once, None) is not None, claim=f"attach of {variant} used calibration data up")


# By variant, data that it cannot use and another one can.
UNUSABLE: dict[str, tuple[tuple[list[Tensor], str], ...]] = {
    "eva": (
        ([torch.ones(1, 4)], "1 calibration tokens for 2 components"),
        ([torch.ones(9, 4)], "have rank 0, wanted 2"),
    ),
}


@claim(st.just, stage="calibration", needs=("calibration",), subject="lora_lite")
def test_a_calibration_that_fails_leaves_the_model_as_before(variant: str) -> None:
    """Before the first batch, at the second, and after the last."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).train()
    model[1].eval()
    before = snapshot_of(model)
    of_all: Any = (([], "holds no batch"), ([x(3), torch.full((3, 4), torch.nan)], "NaN or Inf"))
    for data, match in (*of_all, *UNUSABLE.get(variant, ())):
        tried = f"attach with calibration batches of shapes {[tuple(batch.shape) for batch in data]}"
        with assert_refuses(ll.CalibrationError, match, claim=tried):
            ll.attach(model, simple_config(variant), data)
        assert_as_before(model, before, claim=f"after {tried} was refused")


@claim(st.just, stage="calibration", needs=("calibration",), subject="lora_lite")
def test_a_batch_that_the_model_does_not_take_is_named(variant: str) -> None:
    """By its number and kind, with what the model says; the model is as before."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    before = snapshot_of(model)
    good = x(9)
    for bad, kind in (
        (good[:, :3], "Tensor"),
        ((good, good), "tuple"),
        ({"y": good}, "dict"),
        ("text", "str"),
    ):
        match = f"batch 1 of the calibration data, a {kind}: the model raised .*Wanted a tensor"
        tried = f"attach with a {kind} that the model does not take for its second batch"
        with assert_refuses(ll.CalibrationError, match, claim=tried):
            ll.attach(model, simple_config(variant), [good, bad])
        assert_as_before(model, before, claim=f"after {tried} was refused")


@claim(st.just, stage="refusal", needs=("calibration",), subject="lora_lite")
def test_one_batch_is_not_taken_for_many(variant: str) -> None:
    """A tensor would be a batch a row, and a mapping its own names."""
    for data in (x(9), {"input": x(9)}):
        kind = type(data).__name__
        match = f"found one {kind}, wanted batches. Put it in a list"
        with assert_refuses(ll.CalibrationError, match, claim=f"attach with a {kind} for calibration_data"):
            ll.attach(nn.Sequential(nn.Linear(4, 4)), simple_config(variant), data)
