"""Models that are changed around an adapter: wrapped, fused, with layers replaced, deleted or passed by."""

import copy
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import assert_holds, assert_identical, assert_refuses, assert_runs
from properties.judging.claim import claim
from properties.judging.files import scratch_file
from properties.judging.fixed_models import Stack, moved, on, x
from properties.judging.snapshot import assert_as_before, hooked, snapshot_of
from strategies.wrappers import Wrapped, wrapped


@claim(wrapped, stage="save", subject="lora_lite", share=0.3)
def test_names_are_those_of_the_plain_model(case: Wrapped) -> None:
    """Whatever wraps it or its parts, before attach or after: the file fits the plain base and a wrapped one,
    and detach takes off all of it.
    """
    names, model = ("0.0", "0.1", "1"), case.build()
    # What a compiled graph computes is asked elsewhere: tracing one takes longer than all else here.
    with torch.compiler.set_stance("force_eager"):
        assert_named(case, case.wrap(model) if case.before else model, names)


def assert_named(case: Wrapped, model: nn.Module, names: tuple[str, ...]) -> None:
    before = snapshot_of(model)
    adapter = moved(on(model, case.variant))
    assert_holds(adapter.targets == names, claim=f"targets are {adapter.targets}, wanted {names}")
    whole = model if case.before else case.wrap(model)
    with torch.no_grad():
        wanted = whole(x(3))
    listed = tuple(adapter.layers())
    assert_holds(listed == names, claim=f"once wrapped the handle lists {listed}, wanted {names}")
    for one, what in ((case.build(), "the plain model"), (case.wrap(case.build()), "a wrapped model")):
        with scratch_file() as path:
            ll.save(whole, path)
            with assert_runs(f"load of what was saved beside {case.wraps} onto {what}"):
                ll.load(one, path)
        with torch.no_grad():
            assert_identical(
                one(x(3)), wanted, what=f"the output of {what}, loaded,", like="that before save"
            )
    ll.detach(whole)
    if case.before:
        assert_as_before(model, before, claim="after detach from a wrapped model")
    assert_holds(not hooked(whole), claim=f"after detach hooks hang on {hooked(whole)}")


def replace(model: Any) -> None:
    model.second = nn.Linear(4, 4)


def delete(model: Any) -> None:
    del model.second


def strip(model: Any) -> None:
    del model.second._modules["lora_lite"]


@claim(st.just, stage="attach", subject="lora_lite")
def test_a_layer_that_is_gone_is_told_by_its_name(variant: str) -> None:
    """What is asked of the adapter is refused; detach takes down what is left, from the layer as well."""
    doings: dict[str, Callable[[nn.Module, ll.Adapter, Any], Any]] = {
        "save": lambda model, adapter, path: ll.save(model, path),
        "merge": lambda model, adapter, path: ll.merge(model),
        "dead()": lambda model, adapter, path: adapter.dead(),
        "parameters()": lambda model, adapter, path: list(adapter.parameters()),
        "named_buffers()": lambda model, adapter, path: list(adapter.named_buffers()),
        "layers()": lambda model, adapter, path: adapter.layers(),
    }
    for change in (replace, delete, strip):
        model: Any = Stack()
        before, adapter = snapshot_of(model), on(model, variant)
        layer, match = model.second, "^second (was deleted|is a Linear without the adapter)"
        change(model)
        for what, act in doings.items():
            tried = f"{what} once a layer was changed ({change.__name__})"
            with scratch_file() as path, assert_refuses(ll.TargetError, match, claim=tried):
                act(model, adapter, path)
        adapter.detach()
        model.second = layer
        assert_as_before(model, before, claim=f"after {change.__name__}, detach, and the layer put back")


@claim(st.just, stage="detach", subject="lora_lite")
def test_detach_leaves_the_users_hooks_where_its_own_has_lost_its_adapter(variant: str) -> None:
    """Those that were there before attach, of both kinds: its own is not the first of them."""
    model: Any = Stack()
    model.second.register_forward_pre_hook(lambda layer, args: None)
    model.second.register_forward_hook(lambda layer, args, output: None)
    before, adapter = snapshot_of(model), on(model, variant)
    strip(model)
    adapter.detach()
    assert_as_before(model, before, claim="after detach from a layer whose adapter was deleted")


@claim(st.just, stage="attach", subject="lora_lite")
def test_a_copy_in_a_layers_place_carries_its_adapter(variant: str) -> None:
    """As a conversion makes it; and a layer that moved is found where it is."""
    model: Any = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    adapter = moved(on(model, variant))
    wanted = model(x(3)).detach()
    with assert_runs("a model with a layer copied in its place, or moved,"):
        model[0] = copy.deepcopy(model[0])
        assert_holds(tuple(adapter.layers()) == ("0", "2"), claim="a copy in a layer's place is not listed")
        what = "the output with a layer copied in its place"
        assert_identical(model(x(3)), wanted, what=what, like="as before")
        adapter.detach()
        assert_holds(not hooked(model), claim=f"after detach hooks hang on {hooked(model)}")
        adapter = on(model, variant)
        model.insert(0, nn.Identity())
        found = tuple(adapter.layers())
        assert_holds(found == ("1", "3"), claim=f"layers that moved by one are listed as {found}")


class Attention(nn.Module):
    """Three layers, or one that was fused out of them; or their weights, read past them."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))
        self.fused: nn.Linear | None = None
        self.reads = False

    def forward(self, x: Tensor) -> Tensor:
        if self.fused is not None:
            q, k, v = self.fused(x).chunk(3, -1)
        else:
            read = self.reads and nn.functional.linear(x, self.v.weight, self.v.bias)
            q, k, v = self.q(x), self.k(x), read if self.reads else self.v(x)
        return q * k + v  # type: ignore[no-any-return]

    def fuse(self) -> None:
        layers = (self.q, self.k, self.v)
        self.fused = nn.Linear(4, 12)
        self.fused.weight.data = torch.cat([layer.weight for layer in layers]).detach()
        self.fused.bias.data = torch.cat([layer.bias for layer in layers]).detach()


@claim(st.just, stage="attach", subject="lora_lite")
def test_dead_tells_of_the_latest_forward(variant: str) -> None:
    """Not of one before the layers were fused; merge then refuses, and takes what no forward has tried."""
    model = Attention()
    adapter = moved(on(model, variant))
    model(x(3))
    assert_holds(adapter.dead() == (), claim=f"dead() after a forward gives {adapter.dead()}")
    model.fuse()
    model(x(3))
    found = f"dead() after a forward of fused layers gives {adapter.dead()}, wanted q, k and v"
    assert_holds(adapter.dead() == ("q", "k", "v"), claim=found)
    match = "^q, k, v: merge: the latest forward of the model did not reach 3"
    with assert_refuses(ll.TargetError, match, claim="merge of layers that were fused"):
        ll.merge(model)
    for layer in (model.q, model.k, model.v):
        layer(x(1))
    assert_holds(adapter.dead() == (), claim=f"dead() after calls of each layer gives {adapter.dead()}")
    with assert_runs("merge of layers that were called by themselves"):
        ll.merge(model)
    model.fused = None
    moved(on(model, variant))
    with assert_runs("merge where no forward ran"):
        ll.merge(model)


@claim(stage="merge", subject="lora_lite")
def test_merge_refuses_a_layer_whose_weight_is_read_past_it() -> None:
    """The output would move by what the adapter never did."""
    model = Attention()
    model.reads = True
    moved(on(model, "lora"))
    wanted = model(x(3)).detach()
    with assert_refuses(ll.TargetError, "^v: merge: ", claim="merge of a layer that is read and not called"):
        ll.merge(model)
    assert_identical(model(x(3)), wanted, what="the output after a refused merge", like="as before")


class Logged(nn.Linear):
    """Somebody's own wrapper, which looks like the layer inside."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)  # type: ignore[no-any-return]


@claim(stage="refusal", subject="lora_lite")
def test_a_linear_layer_inside_of_another_is_refused() -> None:
    """By both names; with one of them left out the other carries the adapter."""
    model = nn.Sequential(Logged())
    match = "^0 and 0.inner: found one linear layer inside of the other"
    with assert_refuses(ll.TargetError, match, claim="attach to a layer and the one inside of it"):
        ll.attach(model, ll.IA3Config())
    adapter = ll.attach(model, ll.IA3Config(exclude_names=("0",)))
    assert_holds(adapter.targets == ("0.inner",), claim=f"targets are {adapter.targets}, wanted 0.inner")


class Plain(nn.Linear):
    """A forward of its own, which is tried where an adapter takes its place."""

    def forward(self, input: Tensor) -> Tensor:
        return input @ self.weight.mT + self.bias


@claim(st.just, stage="attach", needs=("no data",), subject="lora_lite")
def test_a_part_that_holds_its_owner_ends_there(variant: str) -> None:
    """A model that leads back to itself has as many names as torch finds."""
    model = Stack()
    model.second = Plain(model.second.in_features, model.second.out_features)
    model.second.owner = model
    with assert_runs("attach to a model that holds itself"):
        adapter = on(model, variant)
    found = f"targets of a model that holds itself are {adapter.targets}, wanted its three layers"
    assert_holds(adapter.targets == ("first", "second", "third"), claim=found)
    linked = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))
    for part, other in itertools.permutations(linked, 2):
        part.add_module(f"beside_{list(linked).index(other)}", other)
    with assert_refuses(
        ll.TargetError, "names for 7 modules", claim="attach to modules that hold one another"
    ):
        ll.attach(linked, ll.IA3Config(target_names=("0",)))


@claim(stage="attach", subject="lora_lite")
def test_what_torchscript_calls_is_refused() -> None:
    """It knows no hooks: an adapter inside would do nothing, and norms could not be kept still. What stands
    still beside the adapted layers may be compiled.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
        linear = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Tanh()))
        norm = torch.jit.script(nn.Sequential(nn.BatchNorm1d(4)))
    for model, name in ((linear, "0"), (nn.Sequential(nn.Linear(4, 4), linear), "1.0")):
        match = f"^{name}: found TorchScript, which calls a layer without its hooks"
        with assert_refuses(ll.TargetError, match, claim="attach inside of TorchScript"):
            ll.attach(model, ll.IA3Config())
    match = "^1.0: found TorchScript whose statistics move"
    with assert_refuses(ll.BaseWeightError, match, claim="attach beside a compiled batch norm"):
        ll.attach(nn.Sequential(nn.Linear(4, 4), norm), ll.IA3Config())
    with assert_runs("an adapter beside TorchScript, from attach to detach"):
        model = nn.Sequential(nn.Linear(4, 4), linear)
        adapter = moved(ll.attach(model, ll.IA3Config(exclude_names=(r"1\.0",))))
        model(x(3))
        with scratch_file() as path:
            ll.save(model, path)
            adapter.detach()
            ll.load(model, path)
        ll.merge(model)
