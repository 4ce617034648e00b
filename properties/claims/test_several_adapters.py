"""Several adapters on one model, and their lives: which train, what goes with each, what comes back with the
last.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

import lora_lite as ll
from properties.judging.assertions import (
    assert_holds,
    assert_identical,
    assert_nonzero,
    assert_refuses,
)
from properties.judging.claim import claim
from properties.judging.files import adapted, base, saved
from properties.judging.fixed_models import (
    Stack,
    assert_learning,
    assert_trains,
    moved,
    on,
    simple_config,
    x,
)
from properties.judging.snapshot import assert_as_before, hooked, snapshot_of


@claim(st.just, stage="attach", subject="lora_lite")
def test_an_overlap_is_refused_and_the_first_adapter_untouched(variant: str) -> None:
    """By the first layer that has one already, and how many of the targets do."""
    model = Stack()
    adapter = moved(on(model, variant, target_names=("first", "second")))
    output, before = model(x(3)).detach(), snapshot_of(model)
    match, tried = "second: 2 of 3 .* already carry an adapter", f"attach of lora over {variant}"
    with assert_refuses(ll.TargetError, match, claim=tried):
        ll.attach(model, simple_config("lora"))
    assert_as_before(model, before, claim=f"after {tried} was refused")
    assert_identical(model(x(3)), output, what=f"the output after {tried} was refused", like="as before")
    assert_trains(model, adapter)


@claim(st.just, stage="attach", subject="lora_lite")
def test_two_adapters_work_and_train_side_by_side(variant: str) -> None:
    """On layers of their own; the second freezes neither the first nor its own, and the output uses both."""
    model = Stack()
    handles = [moved(on(model, "lora", target_names="first"))]
    alone = model(x(3)).detach()
    handles.append(moved(on(model, variant, target_names=("second", "third")), seed=1))
    assert_trains(model, *handles)
    output = model(x(3))
    assert_nonzero(output - alone, what=f"what {variant} adds to the output of a model with lora")
    output.square().sum().backward()
    for adapter in handles:
        assert_learning(adapter)
    handles[1].detach()
    what = f"the output with lora, after {variant} was detached,"
    assert_identical(model(x(3)), alone, what=what, like="that with lora alone")


@claim(stage="detach", subject="lora_lite")
def test_detaching_one_adapter_leaves_the_other() -> None:
    """The base stays frozen until the last one goes; then each flag is as the user had it."""
    for gone in (0, 1):
        model = Stack()
        model.norm.requires_grad_(False)
        model.first.bias.requires_grad_(False)
        before = snapshot_of(model)
        handles = [on(model, "lora", target_names="first"), on(model, "hra", target_names="second")]
        handles[gone].detach()
        left = handles[1 - gone]
        found = f"with {left} left, hooks hang on {hooked(model)}, wanted {list(left.targets)}"
        assert_holds(hooked(model) == list(left.targets), claim=found)
        assert_trains(model, left)
        left.detach()
        assert_as_before(model, before, claim="after the last detach")


@claim(stage="detach", subject="lora_lite")
def test_what_the_user_thaws_meanwhile_stays_thawed() -> None:
    """Detach gives back what attach took, and leaves alone what was frozen before and is not now."""
    (model := Stack()).norm.requires_grad_(False)
    on(model, "lora")
    model.norm.requires_grad_(True)
    ll.detach(model)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert_holds(not frozen, claim=f"{frozen} are frozen after detach, and the user had thawed them")


@claim(stage="attach", subject="lora_lite")
def test_every_attach_freezes_the_whole_base() -> None:
    """What the user thawed after the first one too."""
    model = Stack()
    first = on(model, "lora", target_names="first")
    model.norm.requires_grad_(True)
    assert_trains(model, first, on(model, "hra", target_names="third"))


@claim(stage="detach", subject="lora_lite")
def test_detach_without_an_adapter_is_refused() -> None:
    """Of a model, by its class; of a handle, by its variant; and so is merge."""
    before = snapshot_of(model := Stack())
    nothing = "This Stack carries no adapter"
    with assert_refuses(ll.NotAttachedError, nothing, claim="detach of a plain model"):
        ll.detach(model)
    handles = [on(model, "lora", target_names="first"), on(model, "ia3", target_names="second")]
    handles[0].detach()
    calls: dict[str, Callable[[], Any]] = {
        "detach()": handles[0].detach,
        "layers()": handles[0].layers,
        "parameters()": lambda: list(handles[0].parameters()),
    }
    for name, call in calls.items():
        match = "lora adapter is no longer attached"
        with assert_refuses(ll.NotAttachedError, match, claim=f"{name} of a handle that was detached"):
            call()
    moved(on(model, "hra", target_names="third"))
    ll.detach(model)
    assert_as_before(model, before, claim="after detach of all that was left")
    match = "Found Adapter.*Use the handle's own detach"
    with assert_refuses(ll.TargetError, match, claim="ll.detach of a handle"):
        ll.detach(handles[0])  # type: ignore[arg-type]  # what is tried
    for name, act in {"detach": ll.detach, "merge": ll.merge}.items():
        with assert_refuses(ll.NotAttachedError, nothing, claim=f"{name} after detach"):
            act(model)


@claim(stage="load", subject="lora_lite")
def test_loading_a_second_adapter_leaves_the_first_one_learning() -> None:
    """Saved from another model, detached there, loaded beside one that trains; and the other way round."""
    first, second = ll.LoRAConfig(r=2, target_names=("0",)), ll.HRAConfig(r=2, target_names=("2",))
    for here, there in ((first, second), (second, first)):
        with saved(adapted(there)) as path:
            ll.attach(model := base(), here)
            flags = {name: p.requires_grad for name, p in ll.adapters_of(model)[0].named_parameters()}
            ll.load(model, path)
            now = {
                n: p.requires_grad for adapter in ll.adapters_of(model) for n, p in adapter.named_parameters()
            }
            assert_holds(
                all(flags.values()) and all(now.values()),
                claim=f"beside {here.variant}, load of {there.variant} leaves requires_grad {now}",
            )
