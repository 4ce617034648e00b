"""disabled(): the base alone for a while, whatever happens meanwhile, and the adapters again afterwards."""

import copy
import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import (
    assert_all_identical,
    assert_holds,
    assert_identical,
    assert_refuses,
)
from properties.judging.claim import claim
from properties.judging.files import base, saved
from properties.judging.snapshot import base_tensors
from properties.subjects.attaching import attach
from properties.subjects.layer_runs import default_run, learnt
from strategies import AdaptedModel, trained_models

X = torch.linspace(-1, 1, 18).reshape(3, 6)


@claim(trained_models, stage="attach", needs=("transformers",), share=0.3, subject="lora_lite")
def test_disabled_gives_the_base(case: AdaptedModel) -> None:
    """Output and input gradients of a model whose adapter is disabled are the base's, bit for bit; the
    adapter's own parameters get no gradient, and afterwards everything is as before.
    """
    made = attach(case)
    before = learnt(made.model, case)
    plain = default_run(case)(case.build())
    made.model.zero_grad()
    with ll.disabled(made.model):
        off = default_run(case)(made.model)
    assert_identical(off, plain, what="the output while disabled", like="the base's")
    assert_holds(not off.requires_grad, claim="the output while disabled depends on the adapter's parameters")
    what = "the output or gradient after disabled() ended"
    assert_all_identical(learnt(made.model, case), before, what=what, like="what it was before")


def two() -> tuple[nn.Module, ll.Adapter, ll.Adapter]:
    """Two adapters on one model, both away from init: on an output and on an input."""
    model = base()
    first = ll.attach(model, ll.LoRAConfig(r=2, target_names=("0",)))
    second = ll.attach(model, ll.IA3FFConfig(target_names=("2",)))
    for parameter in (*first.parameters(), *second.parameters()):
        parameter.data.add_(0.5)
    return model, first, second


def without(*handles: ll.Adapter) -> Tensor:
    """What the model gives with these adapters taken off a copy of it."""
    twin = copy.deepcopy(handles[0].model)
    own = ll.adapters_of(handles[0].model)
    for handle, other in zip(own, ll.adapters_of(twin), strict=True):
        if handle in handles:
            other.detach()
    return twin(X).detach()  # type: ignore[no-any-return]


def expect(model: Callable[[Tensor], Tensor], wanted: Tensor, where: str) -> None:
    assert_identical(model(X).detach(), wanted, what=f"the output {where}", like="what it should be there")


@claim(stage="attach", subject="lora_lite")
def test_disabled_holds_for_one_of_several_and_nests() -> None:
    """The innermost does not switch on what an outer one has switched off, in whatever order they end."""
    model, first, second = two()
    full, no_first, no_second, none = (
        without(*off) if off else model(X).detach() for off in ((), (first,), (second,), (first, second))
    )
    with first.disabled():
        expect(model, no_first, "with the first adapter disabled")
        with first.disabled():
            expect(model, no_first, "with the first adapter disabled twice")
        expect(model, no_first, "after the inner of two contexts ended")
        with ll.disabled(model):
            expect(model, none, "with all disabled")
        expect(model, no_first, "after an inner context for all ended")
    expect(model, full, "after all contexts ended")
    outer, inner = first.disabled(), ll.disabled(model)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    expect(model, none, "after the outer of two contexts ended first")
    inner.__exit__(None, None, None)
    expect(model, full, "after the inner one ended last")
    with second.disabled():
        expect(model, no_second, "with the second adapter disabled")


@claim(stage="attach", subject="lora_lite")
def test_disabled_ends_with_an_exception() -> None:
    """And with a detach inside; what is attached again acts."""
    model, first, _ = two()
    full = model(X).detach()
    with assert_refuses(ZeroDivisionError, "", claim="an exception while disabled"), ll.disabled(model):
        raise ZeroDivisionError
    expect(model, full, "after an exception ended disabled()")
    with first.disabled():
        first.detach()
        again = ll.attach(model, ll.LoRAConfig(r=2, target_names=("0",)))
        for parameter in again.parameters():
            parameter.data.add_(0.5)
        wanted = copy.deepcopy(model)(X).detach()
        expect(model, wanted, "with an adapter attached while another was disabled")
    expect(model, wanted, "after disabled() of a detached adapter ended")
    with assert_refuses(ll.NotAttachedError, "no longer attached", claim="disabled() of a detached adapter"):
        first.disabled().__enter__()


@claim(stage="attach", subject="lora_lite")
def test_a_copy_is_disabled_as_long_as_its_original() -> None:
    """A deep copy made inside comes back with the original; each has its own contexts; a pickled one acts."""
    model, first, second = two()
    full, none = model(X).detach(), without(first, second)
    with ll.disabled(model):
        twin = copy.deepcopy(model)
        expect(twin, none, "of a copy made while disabled")
        torch.save(model, held := io.BytesIO())
    expect(twin, full, "of that copy, after disabled() of the original ended")
    held.seek(0)
    pickled = torch.load(held, weights_only=False)
    expect(pickled, full, "of a model that was pickled while disabled")
    with ll.disabled(twin):
        expect(model, full, "of the original while its copy is disabled")
        expect(twin, none, "of the copy while disabled")


@claim(stage="attach", subject="lora_lite")
def test_what_can_be_done_while_disabled() -> None:
    """save writes the adapters as they are, merge refuses, dead() tells what was called, and no bit of the
    base moves.
    """
    model, *_ = two()
    full, tensors = model(X).detach(), base_tensors(model)
    with ll.disabled(model):
        model(X)
        dead = [name for adapter in ll.adapters_of(model) for name in adapter.dead()]
        assert_holds(not dead, claim=f"while disabled, dead() says {dead} of layers that were called")
        with saved(model) as path:
            ll.load(fresh := base(), path)
        expect(fresh, full, "of an adapter saved while disabled")
        match = "0, 2: merge: 2 of 2 adapted layers are disabled"
        with assert_refuses(ll.TargetError, match, claim="merge while disabled"):
            ll.merge(model)
    assert_all_identical(base_tensors(model), tensors, what="the base after disabled()", like="as before")
    ll.merge(model)
    plain = base()
    with assert_refuses(ll.NotAttachedError, "carries no adapter", claim="disabled() of a plain model"):
        ll.disabled(plain).__enter__()


@claim(stage="engine", subject="lora_lite", slow=True)
def test_a_compiled_model_is_disabled_too() -> None:
    """Compiled before or inside; the second time it compiles nothing anew."""
    model, first, second = two()
    full, none, no_first = model(X).detach(), without(first, second), without(first)
    graphs: list[object] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled: Any = torch.compile(model, backend=counting, fullgraph=True)
    for turn in range(3):
        expect(compiled, full, "of a compiled model")
        with ll.disabled(compiled):
            expect(compiled, none, "of a compiled model, disabled,")
        with first.disabled():
            expect(compiled, no_first, "of a compiled model, one of its adapters disabled,")
            with ll.disabled(model):
                expect(compiled, none, "of a compiled model, disabled twice,")
        if turn == 0:
            once = len(graphs)
    found = f"a compiled model compiled {len(graphs)} graphs in three turns, {once} in the first"
    assert_holds(len(graphs) == once, claim=found)
