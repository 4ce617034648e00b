"""Heads that train along: a fresh layer, trained whole beside an adapter, is saved with it and comes back
where it was drawn anew.
"""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.agreement import merge_or_see_refused, round_trip
from properties.judging.assertions import (
    assert_all_identical,
    assert_holds,
    assert_identical,
    assert_nonzero,
    assert_refuses,
)
from properties.judging.claim import claim
from properties.judging.files import adapted, base, refused, saved, scratch_file, scratch_folder
from properties.judging.fixed_models import Stack, adapt_and_move, moved, on, simple_config, x
from properties.judging.snapshot import base_tensors
from properties.subjects import subject
from properties.subjects.attaching import Attached, attach, train
from properties.subjects.layer_runs import default_run
from strategies import AdaptedModel, trained_models

HEAD = "readout"


def bodies(variant: str) -> st.SearchStrategy[AdaptedModel]:
    """Nested models whose readout is a fresh head, and the variant on what is below it."""
    return trained_models(
        variant, kinds=("nested",), weights=("gaussian", "uneven"), dtypes=("float32", "bfloat16")
    )


def with_head(case: AdaptedModel) -> Attached:
    """The variant on the body, `full` on the head, both moved away from init."""
    made = attach(case, exclude_names=(HEAD,))
    ll.attach(made.model, ll.FullConfig(target_names=(HEAD,)))
    train(made)
    return made


def redrawn(case: AdaptedModel) -> nn.Module:
    """The base with another head, as a new process draws it."""
    model = case.build()
    with torch.no_grad():
        for parameter in model.get_submodule(HEAD).parameters():
            parameter.copy_(parameter.flip(0) * 3 + 1)
    return model


@claim(bodies, stage="save", subject="lora_lite", share=0.3, capability="a head that trains along")
def test_a_head_comes_back_where_it_was_drawn_anew(case: AdaptedModel) -> None:
    """Beside any variant: the output after load is bit for bit what it was before save."""
    made, run = with_head(case), default_run(case)
    loaded = round_trip(made.model, redrawn(case))
    what = "the output with a head that was drawn anew, after load"
    assert_identical(run(loaded), run(made.model), what=what, like="what it was before save")
    fresh = base_tensors(redrawn(case))
    assert_all_identical(base_tensors(loaded), fresh, what="the base after load", like="as before")


@claim(bodies, stage="load", subject="lora_lite", share=0.3)
def test_the_body_under_a_head_is_still_told_by_every_bit(case: AdaptedModel) -> None:
    """A file with a head refuses another body, and names what differs; the head it does not name."""
    made, other = with_head(case), redrawn(case)
    name, parameter = next(iter(other.named_parameters()))
    with torch.no_grad():
        parameter.add_(1)
    with scratch_file() as path:
        subject.save(made.model, path)
        with assert_refuses(ll.BaseMismatchError, rf"  {name}: found", claim="load onto another body"):
            subject.load(other, path)


@claim(stage="load", subject="lora_lite")
def test_another_base_is_told_with_what_may_have_happened() -> None:
    """Of one linear layer that differs, that a head which is drawn anew wants to be trained along; of all
    layers of the adapter, that it may have been merged already. No more than that of another base.
    """
    bases: list[Any] = [base() for _ in range(3)]
    head, merged, other = bases
    trained: Any = adapted()
    for layer in (head[2], other[0], other[2]):
        layer.weight.data.neg_()
    other[0].bias.data.add_(1)
    with saved(trained) as path, scratch_folder() as folder:
        ll.export_peft(trained, folder)
        subject.load(merged, path)
        subject.merge(merged)
        drawn, suspected = r"FullConfig\(target_names=\('2',\)\)", "merged into this base already"
        for read, place in ((ll.load, path), (ll.import_peft, folder)):
            for model, match, what in ((head, drawn, "a head"), (merged, suspected, "a merged base")):
                with assert_refuses(ll.BaseMismatchError, match, claim=f"{read.__name__} onto {what}"):
                    read(model, place)
    plain = r"(?s)\A(?!.*(?:FullConfig|merged into)).*made for another base"
    with saved(adapted(ll.LoRAConfig(r=2, target_names=("0",)))) as path:
        refused(other, path, ll.BaseMismatchError, plain, "load onto another base")


@claim(bodies, stage="merge", subject="lora_lite", share=0.3)
def test_a_merged_head_is_the_trained_one(case: AdaptedModel) -> None:
    """Its weight and bias are written into the layer: the numbers that were trained, in the base's dtype."""
    made = with_head(case)
    head: Any = made.model.get_submodule(HEAD)
    tensors = subject.tensors(made.model)[HEAD]
    W, b = (tensors[name].detach().to(head.weight.dtype) for name in ("W", "b"))
    if not merge_or_see_refused(made.model):
        return
    assert_identical(head.weight.detach(), W, what="the merged head's weight", like="the trained W")
    assert_identical(head.bias.detach(), b, what="the merged head's bias", like="the trained b")


@claim(bodies, stage="detach", subject="lora_lite", share=0.3)
def test_detach_gives_the_heads_of_the_base_back(case: AdaptedModel) -> None:
    """Each adapter by itself: the base is bit for bit what it was, and trains where it did."""
    made = with_head(case)
    body, head = ll.adapters_of(made.model)
    head.detach()
    assert_holds(ll.adapters_of(made.model) == (body,), claim="detach of a head took the body's adapter too")
    body.detach()
    assert_all_identical(base_tensors(made.model), made.base, what="the base after detach", like="as before")
    frozen = [name for name, parameter in made.model.named_parameters() if not parameter.requires_grad]
    assert_holds(not frozen, claim=f"after detach {frozen} are frozen, wanted none")


@claim(st.just, stage="forward", about=("full",), subject="lora_lite")
def test_hooks_of_the_user_see_the_head(variant: str) -> None:
    """A hook that was there before changes what the head gives, at init and later, as the base's."""
    model = Stack()
    model.third.register_forward_hook(lambda layer, args, y: 2 * y + 1)
    plain = model(x(3)).detach()
    adapter = on(model, variant, target_names="third")
    got = model(x(3)).detach()
    bound = 64 * torch.finfo(got.dtype).eps * plain.abs().amax()
    assert_holds(bool(((got - plain).abs() <= bound).all()), claim="a head loses the user's hook at init")
    moved(adapter)
    seen: list[Tensor] = []
    model.third.register_forward_hook(lambda layer, args, y: seen.append(y.detach()))
    layer: Any = adapter.layers()["third"]
    model.third.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    model(x(3))
    wanted = 2 * nn.functional.linear(seen[0], layer.W.detach(), layer.b.detach()) + 1
    assert_identical(seen[1], wanted, what="what a later hook sees", like="the hooked head's output")


class Scaled(nn.Linear):
    """A head that does more than x Wᵀ + b."""

    def forward(self, input: Tensor) -> Tensor:
        return 3 * super().forward(input)


class Dropping(nn.Linear):
    """A head that does more in training."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__(d_in, d_out)
        self.dropout = nn.Dropout(0.5)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(self.dropout(input))


@claim(st.just, stage="refusal", about=("full",), subject="lora_lite")
def test_a_head_that_does_more_is_refused(variant: str) -> None:
    """What it does besides would be lost, in whichever mode; to try it moves no generator."""
    for kind, training in itertools.product((Scaled, Dropping), (False, True)):
        match = rf"^head: {kind.__name__}: the adapter takes the place of x Wᵀ \+ b"
        model, before = nn.ModuleDict({"head": kind(4, 2)}).train(training), torch.get_rng_state()
        with assert_refuses(ll.TargetError, match, claim=f"full on a {kind.__name__}, training={training},"):
            ll.attach(model, simple_config(variant))
        drawn = not torch.equal(before, torch.get_rng_state())
        assert_holds(not drawn, claim=f"a refused attach to a {kind.__name__} moved torch's generator")


class Tied(nn.Module):
    """An embedding, a body, and a head that is the embedding."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.head = nn.Linear(4, 9, bias=False)
        self.embed, self.up = nn.Embedding(9, 4), nn.Linear(4, 4)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            nn.init.normal_(self.embed.weight)
            nn.init.zeros_(self.up.weight)
        self.up.bias.data.zero_()
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.up(self.embed(ids)))  # type: ignore[no-any-return]


@claim(st.just, stage="load", about=("full",), subject="lora_lite")
def test_what_a_head_shares_with_the_body_counts_as_body(variant: str) -> None:
    """The embedding under a tied head: another one is another base, and a file of this one fits it."""
    model = Tied(0)
    moved(on(model, variant, target_names="head"))
    round_trip(model, Tied(0))
    with assert_refuses(ll.BaseMismatchError, "embed.weight: found", claim="load onto another embedding"):
        round_trip(model, Tied(1))


@claim(stage="save", subject="lora_lite")
def test_what_trains_beside_an_adapter_is_told_at_save() -> None:
    """A head that was thawed by hand is in no file: save names it, and what to do; a full one is silent."""
    model = Stack()
    on(model, "lora", target_names="first")
    model.third.requires_grad_(True)
    match = r"third.weight, third.bias: 2 parameters .*FullConfig\(target_names=\('third',\)"
    with scratch_file() as path, pytest.warns(UserWarning, match=match):
        ll.save(model, path)
    model.third.requires_grad_(False)
    on(model, "full", target_names="third")
    round_trip(model, Stack())


@claim(st.just, stage="forward", about=("full",))
def test_a_head_does_not_look_at_the_base(variant: str) -> None:
    """With NaN in the layer under it, as memory that was never filled has, the head computes as before."""
    model = adapt_and_move(Stack(), variant, target_names="third")
    wanted = model(x(3)).detach()
    assert_nonzero(wanted, what="the output with a trained head")
    with torch.no_grad():
        model.get_submodule("third").bias.fill_(torch.nan)  # type: ignore[operator]  # a tensor
    assert_identical(model(x(3)).detach(), wanted, what="the output over a bias of NaN", like="as before")
