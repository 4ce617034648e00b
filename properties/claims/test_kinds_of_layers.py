"""Layers that are no nn.Linear: those that compute x W + b are adapted as the linear layers that they are."""

from typing import Any

import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.agreement import round_trip
from properties.judging.assertions import assert_holds, assert_identical, assert_refuses, assert_within
from properties.judging.claim import claim
from properties.judging.fixed_models import moved
from properties.judging.tolerance import claim_bound
from properties.subjects import subject
from properties.subjects.attaching import attach
from strategies import AdaptedLayer, LinearRecipe, Turned, trained_layers

WIDTH = 16


def gpt2(classes: int = 2) -> Any:
    """transformers' own, with a fresh head; its layers are Conv1D. The same at every call."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = GPT2Config(
        n_embd=WIDTH, n_layer=2, n_head=2, vocab_size=50, n_positions=16, num_labels=classes, **ids
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2ForSequenceClassification(config).eval()


def logits(model: Any) -> Tensor:
    ids = torch.arange(1, 15).view(2, 7)
    return model(input_ids=ids).logits.detach()  # type: ignore[no-any-return]


@claim(stage="scope", needs=("transformers",), subject="lora_lite")
def test_the_layers_of_gpt2_are_adapted() -> None:
    """By default all eight of two blocks; saved and loaded, and merged, they give one function."""
    model, fresh = gpt2(), gpt2()
    adapter = ll.attach(model, ll.LoRAConfig(r=2))
    wanted = [name for name, module in model.named_modules() if type(module).__name__ == "Conv1D"]
    missing = sorted(set(wanted) - set(adapter.targets))
    assert_holds(len(wanted) == 8, claim=f"this GPT-2 has the Conv1D layers {wanted}, wanted eight")
    assert_holds(not missing, claim=f"attach of a LoRAConfig() to a GPT-2 left out {missing}")
    moved(adapter)
    adapted = logits(model)
    found = "the logits of a GPT-2 are those of its base with a trained adapter on it"
    assert_holds(not torch.equal(adapted, logits(gpt2())), claim=found)
    what = "the logits of a GPT-2 after load"
    assert_identical(logits(round_trip(model, fresh)), adapted, what=what, like="those before save")
    subject.merge(model)
    bound = claim_bound(WIDTH * adapted.abs().max(), torch.float32)
    what = "the logits of a GPT-2 after merge"
    assert_within(logits(model), adapted, bound, what=what, like="those before", dtype=torch.float32)


class Doubled(Turned):
    """It looks turned, and computes more than x W + b."""

    def forward(self, input: Tensor) -> Tensor:  # as nn.Linear calls it
        return 2 * super().forward(input)


class Upright(Turned):
    """It looks turned, and its weight is (d_out, d_in): square, so that no shape tells."""

    def forward(self, input: Tensor) -> Tensor:  # as nn.Linear calls it
        return nn.functional.linear(input, self.weight, self.bias)


class Summed(Turned):
    """It looks turned, and wants two inputs."""

    def forward(self, input: Tensor, other: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input + other)


@claim(stage="refusal", subject="lora_lite")
def test_what_only_looks_turned_is_refused() -> None:
    """By attach and by load; named by the layer's class."""
    W, b = torch.eye(4) + torch.arange(16.0).view(4, 4), torch.ones(4)
    right = nn.ModuleDict({"up": Turned(W, b)})
    ll.attach(right, ll.LoRAConfig(r=2))
    for kind in (Doubled, Upright, Summed):
        match = rf"^up: {kind.__name__}: its attribute nf .* something else\. Leave it out"
        with assert_refuses(ll.TargetError, match, claim=f"attach to a layer that is {kind.__doc__}"):
            ll.attach(nn.ModuleDict({"up": kind(W, b)}), ll.LoRAConfig(r=2))
        with assert_refuses(ll.TargetError, f"up: {kind.__name__}", claim=f"load onto {kind.__name__}"):
            round_trip(right, nn.ModuleDict({"up": kind(W, b)}))


@claim(stage="merge", subject="lora_lite")
def test_merge_into_what_has_become_more_than_a_turned_layer_is_refused() -> None:
    """Its forward was replaced while the adapter was on."""
    model: Any = nn.Sequential(LinearRecipe(4, 4, turned=True).build())
    ll.attach(model, ll.LoRAConfig(r=2))
    plain = model[0].forward
    model[0].forward = lambda given: 2 * plain(given)
    with assert_refuses(ll.BaseWeightError, "0: merge: .* computes more than", claim="merge of it"):
        ll.merge(model)


def turned_layers(variant: str) -> Any:
    return trained_layers(variant, turns=(True,))


@claim(turned_layers, stage="merge", share=0.3)
def test_merge_leaves_a_turned_weight_turned(case: AdaptedLayer) -> None:
    """A weight (d_in, d_out) stays one, in the memory that it had: a view of it elsewhere sees the merge."""
    model: Any = case.build()
    held = model[0].weight
    pointer, strides = held.data_ptr(), held.stride()
    attach(case, model)
    subject.merge(model)
    now = model[0].weight
    wanted = (case.linear.d_in, case.linear.d_out)
    found = f"merge left a weight of shape {tuple(now.shape)}, strides {now.stride()}"
    assert_holds(tuple(now.shape) == wanted and now.stride() == strides, claim=f"{found}, wanted {wanted}")
    assert_holds(now is held and now.data_ptr() == pointer, claim="merge put the weight into another memory")
