"""Layers of all kinds: those that compute x W + b are adapted as the linear layers that they are, and what is
left alone is named.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.agreement import merge_or_see_refused, round_trip
from properties.judging.assertions import (
    assert_holds,
    assert_identical,
    assert_refuses,
    assert_runs,
    assert_within,
)
from properties.judging.claim import claim
from properties.judging.fixed_models import moved, simple_config
from properties.judging.peft_folders import exported
from properties.judging.tolerance import claim_bound
from properties.subjects import subject
from properties.subjects.attaching import attach
from strategies import AdaptedLayer, LinearRecipe, Turned, gaussian, trained_layers

WIDTH = 16


def gpt2(classes: int = 2) -> Any:
    """transformers' own, with a fresh head; its layers are Conv1D. The same at every call."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    sizes = {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 16}
    tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0)
    config = GPT2Config.from_dict({**sizes, **tokens, "num_labels": classes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = GPT2ForSequenceClassification(config)
    return model.eval()


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


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning", "ignore::FutureWarning")
@claim(stage="save", needs=("transformers", "peft"), subject="lora_lite")
def test_gpt2_goes_to_peft_or_is_refused() -> None:
    """Methods that peft has on Conv1D give the same there; of the others export says so."""
    from peft import PeftModel

    for config in (ll.LoRAConfig(r=2), ll.DoRAConfig(r=2), ll.PiSSAConfig(r=2), ll.IA3Config()):
        moved(ll.attach(model := gpt2(), config))
        with exported(model) as folder:
            theirs = logits(PeftModel.from_pretrained(gpt2(), folder).eval())
            ll.import_peft(again := gpt2(), folder)
        wanted = logits(model)
        bound = claim_bound(WIDTH * wanted.abs().max(), torch.float32)
        for whose, got in (("peft's", theirs), ("import_peft's", logits(again))):
            what = f"{whose} logits of a GPT-2 with {config.variant}"
            assert_within(got, wanted, bound, what=what, like="ours", dtype=torch.float32)
    for other in (ll.HRAConfig(r=2), ll.DeLoRAConfig(r=2, init="zero_b")):
        ll.attach(model := gpt2(), other)
        tried = f"export of {other.variant} on Conv1D"
        match = r"c_attn: peft's \w+ is for nn\.Linear alone, found Conv1D"
        with assert_refuses(ll.CheckpointError, match, claim=tried), exported(model):
            pass


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


@claim(stage="attach", subject="lora_lite")
def test_a_turned_layer_whose_weight_is_computed_is_adapted() -> None:
    """There is no number to hold its forward to: it is taken for what it looks like, by load too."""
    W, b = torch.eye(4) + torch.arange(16.0).view(4, 4), torch.ones(4)
    model, fresh = (
        nn.ModuleDict({"up": nn.utils.parametrizations.weight_norm(Turned(W, b))}) for _ in range(2)
    )
    for config in (ll.LoRAConfig(r=2), ll.DoRAConfig(r=2)):
        with assert_runs(f"attach of {config.variant} to a turned layer under weight_norm, and load"):
            moved(ll.attach(model, config))
            round_trip(model, fresh)
        given = torch.arange(8.0).view(2, 4)
        what, like = "the output of a turned layer under weight_norm after load", "that before save"
        assert_identical(fresh["up"](given), model["up"](given), what=what, like=like)
        for held in (model, fresh):
            ll.detach(held)


@claim(stage="merge", subject="lora_lite")
def test_merge_into_what_has_become_more_than_a_turned_layer_is_refused() -> None:
    """Its class was replaced while the adapter was on."""
    model: Any = nn.Sequential(LinearRecipe(4, 4, turned=True).build())
    ll.attach(model, ll.LoRAConfig(r=2))
    model[0].__class__ = Doubled
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
    if not merge_or_see_refused(model):
        return
    now = model[0].weight
    wanted = (case.linear.d_in, case.linear.d_out)
    found = f"merge left a weight of shape {tuple(now.shape)}, strides {now.stride()}"
    assert_holds(tuple(now.shape) == wanted and now.stride() == strides, claim=f"{found}, wanted {wanted}")
    assert_holds(now is held and now.data_ptr() == pointer, claim="merge put the weight into another memory")


class Mixed(nn.Module):
    """Of each kind a layer, and experts in one piece, as transformers 5 keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(5, 4), nn.LayerNorm(4)
        self.conv, self.up = nn.Conv1d(4, 4, 3), nn.Linear(4, 4)
        self.turned, self.lm_head = Turned(torch.ones(4, 6), None), nn.Linear(4, 5)
        self.experts = nn.Module()
        self.experts.gate_up_proj = nn.Parameter(torch.ones(3, 4, 8))
        self.table = nn.Parameter(torch.ones(4, 4))

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head


KINDS = {
    "embed": r"an embedding \(Embedding: weight \(5, 4\)\)",
    "norm": "a norm",
    "conv": r"a convolution \(Conv1d: weight \(4, 4, 3\)",
    "experts": r"fused weights, as experts have them.*gate_up_proj \(3, 4, 8\)",
}


@claim(stage="scope", subject="lora_lite")
def test_the_handle_accounts_for_every_matrix() -> None:
    """Each of the base lies in a layer that carries an adapter or in what the handle names; experts too."""
    model = Mixed()
    base = dict(model.named_parameters())
    adapter = ll.attach(model, ll.LoRAConfig(r=1))
    owners = {name: name.rpartition(".")[0] for name, parameter in base.items() if parameter.dim() > 1}
    lost = [name for name, owner in owners.items() if owner not in {*adapter.left_alone, *adapter.targets}]
    found = f"{lost} lie neither in the targets {adapter.targets} nor in {adapter.left_alone}"
    assert_holds(not lost, claim=found)
    assert_holds("experts" in repr(adapter), claim=f"repr shows {adapter!r} and no experts")
    adapted = sum(base[name].numel() for name in ("up.weight", "up.bias", "turned.weight"))
    share = adapted / sum(parameter.numel() for parameter in base.values())
    assert_holds(abs(adapter.share - share) < 1e-12, claim=f"share is {adapter.share}, wanted {share}")
    ll.detach(model)
    with assert_refuses(ll.NotAttachedError, "no longer", claim="the share of an adapter, after detach"):
        _ = adapter.share


@claim(stage="refusal", subject="lora_lite")
def test_what_is_no_linear_layer_is_refused_by_what_it_is() -> None:
    """Named in target_names or exclude_names, by its module or its parameter; the message says its kind."""
    parameters = {"table": "a parameter of matrices", "gate_up_proj": "a parameter of fused"}
    for field in ("target_names", "exclude_names"):
        for name, match in {**KINDS, **parameters}.items():
            wanted = f"^{field}: '{name}' matches no linear layer: .*{name} is {match}"
            with assert_refuses(ll.TargetError, wanted, claim=f"attach with {field}={name!r}"):
                ll.attach(Mixed(), ll.LoRAConfig(r=1, **{field: (name,)}))  # type: ignore[arg-type]


@claim(st.just, stage="attach", about=("pissa", "eva", "antipasto"), subject="lora_lite")
def test_a_small_head_bounds_its_own_rank_alone(variant: str) -> None:
    """r = 4 on a head of two classes: told, lowered there at the same scale, and saved and loaded."""
    config = simple_config(variant, width=8, r=4)
    data = [gaussian(0, "data", (20, 8))] if ll.VARIANTS[variant].needs_calibration else None

    def base() -> nn.Sequential:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))

    model = base()
    told_of = pytest.warns(UserWarning, match=r"2 \(8 → 2\) r = 2")
    with assert_runs("attach to a model with a head of two classes"), told_of as told:
        adapter = ll.attach(model, config, data)
    assert_holds(told[0].filename == __file__, claim=f"the warning is told at {told[0].filename}")
    ranks = {name: layer.config.r for name, layer in adapter.layers().items()}
    assert_holds(ranks == {"0": 4, "2": 2}, claim=f"the ranks are {ranks}, wanted 4 and the head's 2")
    scales = {layer.scale for layer in adapter.layers().values()}
    assert_holds(len(scales) == 1, claim=f"the layers have the scales {scales}, wanted one")
    moved(adapter)
    given = gaussian(1, "x", (3, 8))
    wanted = model(given).detach()
    with assert_runs("load of a file with ranks of their own"):
        got = round_trip(model, base())(given).detach()
    assert_identical(got, wanted, what="the output with ranks of their own, after load", like="before save")
    with assert_refuses(ll.ConfigError, "^0: ", claim="a rank that no layer can have"):
        ll.attach(base(), simple_config(variant, width=8, r=16), data)


@claim(stage="attach", subject="lora_lite")
def test_a_layer_that_cannot_carry_an_adapter_at_all_is_left_out_and_told() -> None:
    """Where it was not named; a layer that was named is refused."""
    model = nn.ModuleDict({"up": nn.Linear(8, 8), "head": nn.Linear(8, 2), "line": nn.Linear(1, 8)})
    for config, out in ((ll.AntiPaSTOConfig(r=4), {"head", "line"}), (ll.HRAConfig(r=2), {"line"})):
        with pytest.warns(UserWarning, match=f"{len(out)} layers are left out, that {config.variant} cannot"):
            adapter = ll.attach(model, config)
        wanted = tuple(name for name in model if name not in out)
        found = f"{config.variant} is on {adapter.targets}, wanted {wanted}"
        assert_holds(adapter.targets == wanted, claim=found)
        ll.detach(model)
        named = replace(config, target_names=(".*",))
        with assert_refuses(ll.ConfigError, f"^{min(out)}: ", claim=f"{config.variant} on layers by name"):
            ll.attach(model, named)
