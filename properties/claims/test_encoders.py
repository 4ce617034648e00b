"""nn.TransformerEncoder: its fast path and its nested tensors pass by no adapter."""

import warnings
from typing import Any

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
from properties.judging.fixed_models import inner_width, moved, on, simple_config, starts_as_the_base, x
from properties.judging.own_bound import own_results
from properties.subjects.attaching import seed_inits

MASK = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


def masked(encoder: nn.Module, src: Tensor) -> dict[str, Tensor]:
    """Of an nn.TransformerEncoder."""
    return {"output": encoder(src, src_key_padding_mask=MASK)}


@claim(st.just, stage="forward", subject="lora_lite")
def test_an_encoders_fast_path_does_not_pass_by_an_adapter(variant: str) -> None:
    """nn.TransformerEncoder with a padding mask, evaluated: calibration and adapter see padded tensors. It is
    as before after detach.
    """
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, inner_width(variant, 4), batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=True).eval()
    batch: dict[str, Any] = {"src": x(2, 5), "src_key_padding_mask": MASK}
    before = model.use_nested_tensor
    data = [batch] if ll.VARIANTS[variant].needs_calibration else None
    with torch.no_grad(), warnings.catch_warnings():
        # torch's own, of its nested tensors.
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors")
        with assert_runs("an encoder with a padding mask and an adapter"):
            plain = model(**batch)[~MASK]
            seed_inits(0)
            adapter = ll.attach(model, simple_config(variant, exclude_names="out_proj"), data)
            # First of all: what refuses it is no reason to judge nothing.
            fresh = model(**batch)[~MASK]
            bound = 2 * own_results(model, batch["src"], masked)["output"].error[~MASK]
            if starts_as_the_base(adapter):
                what = "the output of a masked encoder with a fresh adapter"
                assert_within(fresh, plain, bound, what=what, like="the plain one's")
            moved(adapter)
            assert_nonzero(model(**batch)[~MASK] - plain, what="what a moved adapter adds in an encoder")
            ll.detach(model)
            assert_identical(model(**batch)[~MASK], plain, what="the output after detach", like="as before")
    now = model.use_nested_tensor
    assert_holds(now == before, claim=f"use_nested_tensor is {now} after detach, was {before}")


class Switched(nn.Sequential):
    """The user's own, with a switch that is called like the encoder's."""

    use_nested_tensor = True


@claim(stage="attach", subject="lora_lite")
def test_a_switch_of_another_class_is_left_alone() -> None:
    """While the adapter is on, and after detach."""
    model = Switched(nn.Linear(4, 4))
    ll.attach(model, ll.LoRAConfig(r=2))
    found = "attach has switched off use_nested_tensor of a module that is no nn.TransformerEncoder"
    assert_holds(model.use_nested_tensor, claim=found)
    ll.detach(model)
    held = sorted({"use_nested_tensor"} & vars(model).keys())
    assert_holds(not held, claim=f"after detach the user's module holds {held} of its own")


@claim(st.just, stage="refusal", subject="lora_lite")
def test_a_nested_tensor_is_refused_by_the_layer(variant: str) -> None:
    """It has no shape to go by."""
    on(model := nn.Sequential(nn.Linear(4, 4)), variant)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors")
        given = torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(3, 4)])
    match = "^0: found a nested tensor"
    with assert_refuses(ll.TargetError, match, claim="a forward of a nested tensor"):
        model(given)
