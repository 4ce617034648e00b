"""Layers as they stand in models of the field: shared, tied, idle and repeated."""

import copy
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.agreement import assert_loaded, round_trip
from properties.judging.assertions import (
    assert_holds,
    assert_identical,
    assert_nonzero,
    assert_within,
)
from properties.judging.claim import claim
from properties.judging.fixed_models import Stack, adapt, adapt_and_move, assert_trains, moved, on, x
from properties.judging.own_bound import own_output
from properties.judging.snapshot import assert_as_before, snapshot_of
from properties.judging.tolerance import claim_bound
from properties.subjects import subject

D = torch.float64


class Odd(nn.Module):
    """`twice` runs two times and is `alias` too, `tied` has the weight of `first`, `idle` never runs."""

    def __init__(self) -> None:
        super().__init__()
        made = Stack().double()
        self.first, self.twice, self.tied = made.first, made.second, nn.Linear(4, 4).double()
        self.alias, self.tied.weight = self.twice, self.first.weight
        self.idle = nn.Linear(4, 4).double()
        self.requires_grad_()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.tied(torch.sin(self.alias(torch.sin(self.twice(self.first(x))))))
        return y


@claim(st.just, stage="gradient")
def test_a_layer_that_runs_twice_learns_from_both(variant: str) -> None:
    """Its gradients are the sums of those of two layers that are equal and run once each."""
    model = adapt_and_move(Odd(), variant, target_names="twice", dtype=D)
    (own,) = subject.tensors(model).values()
    apart = Odd()
    apart.load_state_dict(
        {name: tensor for name, tensor in model.state_dict().items() if name in apart.state_dict()}
    )
    apart.alias = copy.deepcopy(apart.twice)
    adapt(apart, variant, target_names=("twice", "alias"), dtype=D)
    copies = subject.tensors(apart)
    with torch.no_grad():
        for tensors in copies.values():
            for name, tensor in tensors.items():
                tensor.copy_(own[name])
    for one in (model, apart):
        one(x(3).double()).square().sum().backward()
    for name, tensor in own.items():
        if not isinstance(tensor, nn.Parameter):
            continue
        parts = [tensors[name].grad for tensors in copies.values()]
        assert tensor.grad is not None
        assert parts[0] is not None
        assert parts[1] is not None
        bound = claim_bound(sum(float(part.abs().amax()) for part in parts if part is not None), D)
        what, like = f"the gradient of {name} of a layer that runs twice", "the sum of those of its two runs"
        assert_within(tensor.grad, parts[0] + parts[1], bound, what=what, like=like)


@claim(st.just, stage="attach", subject="lora_lite")
def test_a_shared_layer_carries_one_adapter_through_its_life(variant: str) -> None:
    """Saved once, loaded onto the like, taken off and merged with all its names."""
    model = Odd()
    adapter = moved(on(model, variant, target_names="alias", dtype=D))
    wanted = model(x(3).double()).detach()
    assert_holds(
        adapter.targets == ("twice",), claim=f"{variant} on alias went to {adapter.targets}, wanted twice"
    )
    ids = [id(parameter) for parameter in adapter.parameters()]
    found = "the adapter of a shared layer lists a parameter twice"
    assert_holds(len(set(ids)) == len(ids), claim=found)
    fresh = Odd()
    fresh.load_state_dict({n: t for n, t in model.state_dict().items() if "lora_lite" not in n})
    assert_loaded(round_trip(model, fresh), subject.tensors(model))
    what = "the output of a model with a shared layer, after load,"
    assert_identical(fresh(x(3).double()), wanted, what=what, like="that before save")
    subject.detach(fresh)
    frozen = [name for name, parameter in fresh.named_parameters() if not parameter.requires_grad]
    assert_holds(not frozen, claim=f"{frozen} of a model with a shared layer are frozen after detach")
    bound = 2 * own_output(model, x(3).double()).error
    subject.merge(model)
    what = "the output of a model with a shared layer, after merge,"
    assert_within(model(x(3).double()), wanted, bound, what=what, like="that before")


@claim(st.just, stage="attach", subject="lora_lite")
def test_an_adapter_on_one_of_two_tied_layers_leaves_the_other(variant: str) -> None:
    """Their one weight keeps every bit, freezes and thaws once, and the other layer computes as before."""
    model, given = Odd(), x(3).double()
    before, wanted, untouched = snapshot_of(model), model(given).detach(), model.tied(given).detach()
    adapter = moved(on(model, variant, target_names="first", dtype=D))
    assert_trains(model, adapter)
    what = f"the output of the layer tied to the one that {variant} is on"
    assert_identical(model.tied(given), untouched, what=what, like="as before")
    assert_nonzero(model(given) - wanted, what=f"what {variant} on first adds to the model's output")
    ll.detach(model)
    assert_as_before(model, before, claim=f"after detach of {variant} from a tied layer")
    what = f"the output after detach of {variant} from a tied layer"
    assert_identical(model(given), wanted, what=what, like="as before attach")


@claim(st.just, stage="attach", needs=("no data",), subject="lora_lite")
def test_a_layer_that_no_forward_reaches_is_reported_as_dead(variant: str) -> None:
    """Every target before the first forward, the idle one after it; a copy knows what its original knew."""
    model: Any = Odd()
    adapter = on(model, variant, dtype=D)

    def assert_dead(one: ll.Adapter, *wanted: str, when: str) -> None:
        assert_holds(one.dead() == wanted, claim=f"dead() {when} gives {one.dead()}, wanted {wanted}")

    assert_dead(adapter, "first", "twice", "tied", "idle", when="before any forward")
    with torch.inference_mode():
        model(x(3).double())
    assert_dead(adapter, "idle", when="after a forward")
    (twin,) = ll.adapters_of(copy.deepcopy(model))
    assert_dead(twin, "idle", when="of a copy")
    model.idle(x(3).double())
    assert_dead(adapter, when="after a forward of the idle layer")
    assert_dead(twin, "idle", when="of a copy whose original ran on")
