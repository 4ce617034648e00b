"""Activations that are computed a second time in the backward pass."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from properties.judging.assertions import assert_all_identical, assert_holds
from properties.judging.claim import claim
from properties.judging.fixed_models import Stack, adapt_and_move, x
from properties.subjects import subject
from properties.subjects.attaching import attach
from properties.subjects.layer_runs import learnt
from strategies import AdaptedModel, trained_models
from strategies.models import Nested, trained_nested


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
        given = case.batch()["x"]
        wanted = gradients(model, given.clone().requires_grad_(needed), lambda block, h: block(h))
        got = gradients(model, given.requires_grad_(needed), partial(checkpoint, use_reentrant=reentrant))
        what = (
            f"the output or gradient with checkpoint(use_reentrant={reentrant}) and an input with"
            f" requires_grad={needed}"
        )
        assert_all_identical(got, wanted, what=what, like="that without")


def trained_transformers(variant: str) -> st.SearchStrategy[AdaptedModel]:
    """Models that read token ids, which never have a gradient."""
    return trained_models(variant, kinds=("qwen3",))


@claim(trained_transformers, stage="engine", needs=("transformers",), share=0.15)
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
        got = learnt(attach(case, model).model, case)
        what = f"the output or gradient with gradient checkpointing (use_reentrant={reentrant})"
        assert_all_identical(got, wanted, what=what, like="that without")


@claim(st.just, stage="engine")
def test_reentrant_checkpointing_needs_an_input_with_a_gradient(variant: str) -> None:
    """Where there is none torch cuts the graph and warns of it: what is inside learns nothing, what comes
    after does.
    """
    model = Stack().double()
    adapt_and_move(model, variant, dtype=torch.float64)
    inside = nn.Sequential(model.first, model.second)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.third(checkpoint(inside, x(3).double(), use_reentrant=True)).sum().backward()
    said = [str(warning.message) for warning in caught]
    warned = any("None of the inputs have requires_grad=True" in text for text in said)
    assert_holds(warned, claim=f"torch warns of {said}, wanted of inputs that require no gradient")
    learning = {
        layer
        for layer, own in subject.tensors(model).items()
        if any(tensor.grad is not None for tensor in own.values())
    }
    found = f"{sorted(learning)} learn beside a graph that was cut, wanted the third layer alone"
    assert_holds(learning == {"third"}, claim=found)
