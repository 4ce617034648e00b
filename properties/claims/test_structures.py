"""Models as they are built in the field: shared, tied, idle and repeated layers, odd batches, checkpoints,
functional calls.
"""

import copy
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

import lora_lite as ll
from properties.judging.assertions import (
    assert_all_identical,
    assert_close,
    assert_holds,
    assert_identical,
    assert_nonzero,
    assert_within,
)
from properties.judging.claim import claim
from properties.judging.expected import expected_output
from properties.judging.fixed_models import Stack, assert_trains, moved, on, x
from properties.judging.snapshot import assert_as_before, state_of
from properties.judging.tolerance import claim_bound
from properties.subjects.attaching import attach
from properties.subjects.observation import default_run, learnt, observe
from strategies import AdaptedLayer, AdaptedModel, trained_layers, trained_models
from strategies.models import FULL_RANK, Nested, nested_recipes, qwen3_recipes
from strategies.tensors import WEIGHT_FAMILIES

# Batches.

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.mT.contiguous().mT if x.ndim > 1 else x,
    "strided": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "expanded": lambda x: x[:1].expand_as(x) if x.ndim > 1 else x,
}


@dataclass(frozen=True)
class Laid:
    """A layer, and how its input lies in memory."""

    layer: AdaptedLayer
    layout: str

    def x(self) -> Tensor:
        return LAYOUTS[self.layout](self.layer.x())


def laid(variant: str) -> st.SearchStrategy[Laid]:
    """Nought to four leading dimensions, some of them empty. Shrinks towards one vector."""
    tokens = ((), (1,), (3,), (2, 0), (0,), (1, 2, 2, 2), (2, 1, 3))
    return st.builds(Laid, trained_layers(variant, tokens=tokens), st.sampled_from(tuple(LAYOUTS)))


@claim(laid, stage="forward", share=0.5, needs=("oracle",))
def test_a_batch_of_any_shape_and_layout_is_taken_row_by_row(case: Laid) -> None:
    """Whatever its strides, the output is the oracle's at those numbers and has the input's leading
    dimensions.
    """
    made = attach(case.layer)
    (layer,) = observe(made, lambda model: model(case.x().contiguous()))
    assert_close(
        made.model(case.x()),
        expected_output(layer),
        what=f"the output for {case.layout} input",
        like="the oracle's",
    )
    shape = made.model(case.x()).shape
    assert_holds(
        shape[:-1] == case.layer.tokens,
        claim=f"tokens {case.layer.tokens} give an output of shape {tuple(shape)}",
    )


# Layers.


class Odd(nn.Module):
    """`twice` runs two times and is `alias` too, `tied` has the weight of `first`, `idle` never runs."""

    def __init__(self) -> None:
        super().__init__()
        made = Stack().double()
        self.first, self.twice, self.tied = made.first, made.second, nn.Linear(4, 4).double()
        self.alias, self.tied.weight = self.twice, self.first.weight
        self.idle = nn.Linear(4, 4).double()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.tied(torch.sin(self.alias(torch.sin(self.twice(self.first(x))))))
        return y


def on_odd(variant: str, **common: Any) -> tuple[Odd, ll.Adapter]:
    model = Odd().requires_grad_()
    common = {"exclude_names": "idle", **common} if ll.VARIANTS[variant].needs_calibration else common
    return model, moved(on_doubles(model, variant, **common))


def on_doubles(model: nn.Module, variant: str, **common: Any) -> ll.Adapter:
    """As test_attach.on, calibrated in the dtype of the model."""
    model.register_forward_pre_hook(lambda module, args: (args[0].double(),))
    return on(model, variant, dtype=torch.float64, **common)


@claim(st.just, stage="gradient")
def test_a_layer_that_runs_twice_learns_from_both(variant: str) -> None:
    """Its gradients are the sums of those of two layers that are equal and run once each."""
    model, adapter = on_odd(variant, target_names="twice")
    apart = copy.deepcopy(model)
    apart.alias = copy.deepcopy(apart.twice)
    for one in (model, apart):
        one(x(3)).square().sum().backward()
    for name, parameter in adapter.named_parameters():
        last = name.rpartition(".")[2]
        parts = [getattr(layer.lora_lite, last).grad for layer in (apart.twice, apart.alias)]
        assert parameter.grad is not None
        size = sum(float(part.abs().amax()) for part in parts)
        claim = f"the gradient of {name} over two calls"
        assert_within(parameter.grad, sum(parts), claim_bound(size, torch.float64), what=claim)


@claim(st.just, stage="attach")
def test_a_shared_layer_carries_one_adapter_through_its_life(variant: str) -> None:
    """Saved once, loaded onto the like, taken off and merged with all its names."""
    model, adapter = on_odd(variant, target_names="alias")
    wanted = model(x(3)).detach()
    assert_holds(adapter.targets == ("twice",), claim=f"{variant} on alias went to {adapter.targets}")
    assert_holds(
        len({id(p) for p in adapter.parameters()}) == len(list(adapter.parameters())), claim="listed twice"
    )
    with tempfile.TemporaryDirectory() as folder:
        ll.save(model, path := Path(folder) / "a")
        fresh = Odd().requires_grad_()
        fresh.load_state_dict({n: t for n, t in model.state_dict().items() if "lora_lite" not in n})
        ll.load(fresh, path)
    assert_identical(fresh(x(3).double()), wanted, what="the output of a shared layer after load")
    ll.detach(fresh)
    assert_holds(all(p.requires_grad for p in fresh.parameters()), claim="a shared layer after detach")
    ll.merge(model)
    bound = claim_bound(16 * float(wanted.abs().amax()), torch.float64)
    assert_within(model(x(3)), wanted, bound, what="the output of a shared layer after merge")


@claim(st.just, stage="attach")
def test_an_adapter_on_one_of_two_tied_layers_leaves_the_other(variant: str) -> None:
    """Their one weight keeps every bit, freezes and thaws once, and the other layer computes as before."""
    model, plain = Odd().requires_grad_(), x(3).double()
    before, wanted, untouched = state_of(model), model(plain).detach(), model.tied(plain).detach()
    adapter = moved(on_doubles(model, variant, target_names="first"))
    assert_trains(model, adapter)
    assert_identical(
        model.tied(plain), untouched, what=f"{variant} on first: the output of the layer tied to it"
    )
    assert_nonzero(model(plain) - wanted, what=f"what {variant} on first adds")
    ll.detach(model)
    model._forward_pre_hooks.clear()
    assert_as_before(model, before, claim=f"{variant} on a tied layer, detached")
    assert_identical(model(plain), wanted, what=f"{variant} on a tied layer, detached: the output")


@claim(st.just, stage="attach", needs=("no data",))
def test_a_layer_that_no_forward_reaches_is_reported_as_dead(variant: str) -> None:
    """Every target before the first forward, the idle one after it; a copy knows what its original knew."""
    model, adapter = on_odd(variant)
    wanted = ("first", "twice", "tied", "idle")
    assert_holds(adapter.dead() == wanted, claim=f"dead before any forward {adapter.dead()}, wanted {wanted}")
    with torch.inference_mode():
        model(x(3))
    assert_holds(adapter.dead() == ("idle",), claim=f"dead after a forward {adapter.dead()}, wanted idle")
    (twin,) = ll.adapters_of(copy.deepcopy(model))
    assert_holds(twin.dead() == ("idle",), claim=f"dead in a copy {twin.dead()}, wanted idle")
    model.idle(x(3).double())
    assert_holds(adapter.dead() == () and twin.dead() == ("idle",), claim=f"{adapter.dead()}, {twin.dead()}")


# Ways to run a model.


def trained_nested(variant: str) -> st.SearchStrategy[AdaptedModel]:
    """Blocks that can be run one by one."""
    weights = FULL_RANK if ll.VARIANTS[variant].needs_calibration else WEIGHT_FAMILIES
    return trained_models(variant, models=nested_recipes(weights=weights))


def gradients(model: Nested, given: Tensor, call: Callable[[nn.Module, Tensor], Tensor]) -> dict[str, Tensor]:
    """The output, and the gradient of everything that has one, where each block is run by `call`."""
    model.zero_grad()
    h = given
    for block in model.get_submodule(model.container).children():
        h = call(block, h)
    output = model.readout(h)
    output.square().sum().backward()
    named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    own = {} if given.grad is None else {"input": given.grad}
    return {**named, **own, "output": output.detach()}


@claim(trained_nested, stage="engine", share=0.3, capability="checkpointing")
def test_checkpointing_changes_no_bit(case: AdaptedModel) -> None:
    """Of the output and of any gradient, reentrant or not, block by block; the input may need no gradient of
    its own.
    """
    model: Any = attach(case).model
    for reentrant, needed in ((True, True), (False, True), (False, False)):
        x = case.batch()["x"]
        wanted = gradients(model, x.clone().requires_grad_(needed), lambda block, h: block(h))
        got = gradients(model, x.requires_grad_(needed), partial(checkpoint, use_reentrant=reentrant))
        assert_all_identical(
            got, wanted, what=f"use_reentrant={reentrant}, an input with requires_grad={needed}"
        )


def trained_transformers(variant: str) -> st.SearchStrategy[AdaptedModel]:
    """Models that read token ids, which never have a gradient."""
    return trained_models(variant, models=qwen3_recipes())


@claim(trained_transformers, stage="engine", share=0.15)
def test_checkpointing_a_transformer_changes_no_bit(case: AdaptedModel) -> None:
    """Switched on before attach, in train mode, as in the field; reentrant where its embeddings require a
    gradient.
    """
    wanted = learnt(attach(case, case.build().train()).model, case)
    for reentrant in (True, False):
        model: Any = case.build().train()
        switch_on = (
            getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        )
        switch_on({"use_reentrant": reentrant})
        # What newer releases of transformers do with the switch.
        model.enable_input_require_grads()
        assert_all_identical(
            learnt(attach(case, model).model, case), wanted, what=f"with use_reentrant={reentrant}"
        )


@claim(st.just, stage="engine")
def test_reentrant_checkpointing_needs_an_input_with_a_gradient(variant: str) -> None:
    """Where there is none torch cuts the graph and warns of it: what is inside learns nothing, what comes
    after does.
    """
    model = Stack().double()
    adapter = moved(on_doubles(model, variant))
    inside = nn.Sequential(model.first, model.second)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.third(checkpoint(inside, x(3).double(), use_reentrant=True)).sum().backward()
    said = [str(warning.message) for warning in caught]
    assert_holds(
        any("None of the inputs have requires_grad=True" in text for text in said),
        claim=f"torch warns of {said}",
    )
    learning = {
        name.partition(".")[0] for name, parameter in adapter.named_parameters() if parameter.grad is not None
    }
    assert_holds(
        learning == {"third"},
        claim=f"{learning} learn beside a graph that was cut, wanted the third layer alone",
    )


@claim(trained_nested, stage="engine", share=0.3, capability="functional_call")
def test_a_functional_call_uses_the_parameters_that_it_is_given(case: AdaptedModel) -> None:
    """Its output and gradients are those of a model that holds them; the model's own stay as they are."""
    model = attach(case).model
    given = {name: p.detach() * 0.75 for name, p in model.named_parameters() if p.requires_grad}
    holder = copy.deepcopy(model)
    holder.load_state_dict({**model.state_dict(), **given})
    own = default_run(case)(model).detach()

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        output: Tensor = functional_call(model, parameters, (), case.batch())
        return output.square().sum()

    wanted = default_run(case)(holder)
    torch.autograd.backward(wanted.square().sum())
    assert_identical(
        functional_call(model, given, (), case.batch()), wanted, what="the output of a functional call"
    )
    learnt = {name: p.grad for name, p in holder.named_parameters() if name in given and p.grad is not None}
    assert_all_identical(grad(loss)(given), learnt, what="the gradients of a functional call")
    assert_identical(default_run(case)(model), own, what="the model's own output after a functional call")


@claim(st.just, stage="engine")
def test_vmap_gives_each_row_its_own_output(variant: str) -> None:
    """A batch mapped row by row is the batch."""
    model = Stack().double()
    moved(on_doubles(model, variant))
    rows = x(5).double()
    wanted = model(rows).detach()
    bound = claim_bound(16 * float(wanted.abs().amax()), torch.float64)
    assert_within(vmap(model)(rows), wanted, bound, what="rows under vmap")
