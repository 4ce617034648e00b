"""Where the numbers are, and when: weights on no device, in pieces, or given to a model after its adapter."""

import copy
import warnings
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import assert_holds, assert_refuses, assert_runs
from properties.judging.claim import claim
from properties.judging.files import saved, scratch_file
from properties.judging.fixed_models import Stack, moved, on, simple_config, x
from properties.judging.snapshot import hooked
from strategies import gaussian

STARTING = ("pissa", "dora", "delora", "eva", "antipasto")


def other(model: nn.Module) -> dict[str, Tensor]:
    """The numbers of another base of the same names."""
    held = {name: tensor for name, tensor in model.state_dict().items() if "lora_lite" not in name}
    return {name: tensor.flip(-1) + 1 for name, tensor in held.items()}


def load_state(model: Any) -> None:
    model.load_state_dict(other(model), strict=False)


def assign(model: Any) -> None:
    model.load_state_dict(other(model), strict=False, assign=True)


def write(model: Any) -> None:
    with torch.no_grad():
        model.second.weight.mul_(1.01)


def put_under(model: Any) -> None:
    model.second.weight.data = model.second.weight.data * 1.01


def write_past(model: Any) -> None:
    model.second.weight.data.mul_(1.01)


def replace(model: Any) -> None:
    model.second.weight = nn.Parameter(model.second.weight.detach() * 1.01, requires_grad=False)


@claim(st.just, stage="attach", subject="lora_lite", about=("eva", "antipasto"))
def test_what_calibration_data_writes_to_the_base_is_what_attach_starts_from(variant: str) -> None:
    """A generator that ends in a normalised weight, say: the adapter starts from that, and works."""
    model = Stack()

    def batches() -> Iterator[Tensor]:
        write(model)
        yield x(9)

    ll.attach(model, simple_config(variant), batches())
    with assert_runs("a forward after calibration data that wrote to the base"):
        model(x(3))


@claim(st.just, stage="attach", subject="lora_lite", about=STARTING)
def test_a_weight_that_comes_after_its_adapter_is_noticed(variant: str) -> None:
    """However it comes: forward and merge refuse it by the layer, save says so."""
    for come in (load_state, assign, write, replace, put_under, write_past):
        moved(on(model := Stack(), variant))
        come(model)
        match, how = "^(first|second): its weight is another than at attach", come.__name__
        if come is not write_past:  # which nothing shows but the numbers
            with assert_refuses(ll.BaseWeightError, match, claim=f"a forward after {how}"):
                model(x(3))
        with assert_refuses(ll.BaseWeightError, match, claim=f"merge after {how}"):
            ll.merge(model)
        with warnings.catch_warnings(record=True) as told, scratch_file() as path:
            warnings.simplefilter("always")
            ll.save(model, path)
        found = [str(one.message) for one in told if "its weight is another" in str(one.message)]
        assert_holds(bool(found), claim=f"save after {how} said {[str(one.message) for one in told]}")


@claim(st.just, stage="attach", subject="lora_lite", about=STARTING)
def test_rows_that_change_places_are_noticed(variant: str) -> None:
    """Whichever two: what is remembered of a weight tells each row from every other."""
    model: Any = nn.Sequential(nn.Linear(4, 24))
    weight = model[0].weight
    weight.data.copy_(gaussian(0, "weight", (24, 4)))
    on(model, variant)
    for pair in combinations(range(24), 2):
        with torch.no_grad():
            weight[[*pair]] = weight[[*reversed(pair)]]
        with assert_refuses(ll.BaseWeightError, "^0: its weight is another", claim=f"rows {pair} swapped"):
            model(x(3))
        with torch.no_grad():
            weight[[*pair]] = weight[[*reversed(pair)]]


def resume(model: Any) -> None:
    model.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()})


def same(model: Any) -> None:
    base = {n: t.clone() for n, t in model.state_dict().items() if "lora_lite" not in n}
    model.load_state_dict(base, strict=False, assign=True)


def there_and_back(model: Any) -> None:
    model.bfloat16().float()


def cast(model: Any) -> None:
    model.double()


def from_another(model: Any) -> None:
    twin = copy.deepcopy(model)
    ll.detach(twin)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    donor = on(twin, ll.adapters_of(model)[0].config.variant).model
    model.load_state_dict(donor.state_dict())


def thaw(model: Any) -> None:
    model.second.weight.requires_grad_(True)
    write(model)


def thaw_and_put_back(model: Any) -> None:
    weight = model.second.weight
    before = weight.detach().clone()
    thaw(model)
    model(x(3))
    weight.requires_grad_(False)
    with torch.no_grad():
        weight.copy_(before)


@claim(st.just, stage="attach", subject="lora_lite")
def test_what_is_no_other_weight_is_taken(variant: str) -> None:
    """The same numbers again, a cast and its way back, adapter and base out of one state dict, a weight that
    the user trains along, one that is put back after that, a copy.
    """
    changes: tuple[Callable[[Any], Any], ...]
    changes = (resume, same, there_and_back, cast, from_another, thaw, thaw_and_put_back, copy.deepcopy)
    for come in changes:
        moved(on(model := Stack(), variant))
        model(x(3))
        model = copy.deepcopy(model) if come is copy.deepcopy else model
        come(model)
        with assert_runs(f"a forward after {getattr(come, '__name__', come)}"):
            model(x(3).to(next(model.parameters()).dtype))
            model(x(3).to(next(model.parameters()).dtype))


@claim(st.just, stage="save", subject="lora_lite")
def test_pieces_of_an_adapter_are_not_saved(variant: str) -> None:
    """As sharding engines leave them outside of a forward, of the adapter or of the weight under it: refused
    by name and shape, and the file that was there is whole.
    """
    cut: dict[str, Callable[[Tensor], Tensor]] = {
        r"\(0,\)": lambda tensor: tensor.new_empty(0),
        "": lambda tensor: torch.cat([tensor.flatten(), tensor.flatten()]),
    }
    for shape, piece in cut.items():
        for whose in ("adapter", "base"):
            adapter = moved(on(model := Stack(), variant))
            with saved(model) as path:
                before = path.read_bytes()
                own = adapter.parameters() if whose == "adapter" else [model.second.weight]
                for parameter in own:
                    parameter.data = piece(parameter.data)
                error = ll.CheckpointError if whose == "adapter" else ll.BaseWeightError
                match = rf"^(first: tensor \w+|second: its weight) has (the )?shape {shape}"
                with assert_refuses(error, match, claim=f"save of pieces of the {whose}"):
                    ll.save(model, path)
                assert_holds(path.read_bytes() == before, claim="a refused save changed the file")


@claim(st.just, stage="attach", needs=("no data",), subject="lora_lite")
def test_a_base_in_pieces_is_refused(variant: str) -> None:
    """By attach and by load, with the layer and the shape."""
    model = Stack()
    with saved(on(Stack(), variant).model) as path:
        model.second.weight.data = torch.empty(0)
        match = r"^second: its weight has the shape \(0,\)"
        with assert_refuses(ll.BaseWeightError, match, claim="attach to a weight in pieces"):
            ll.attach(model, ll.IA3Config())
        with assert_refuses(ll.BaseWeightError, match, claim="load onto a weight in pieces"):
            ll.load(model, path, check_base=False)
    assert_holds(not hooked(model), claim="a refused attach left hooks")


@claim(st.just, stage="forward", subject="lora_lite")
def test_an_adapter_elsewhere_than_its_input_is_refused(variant: str) -> None:
    """As an engine leaves it that brings a layer's weights alone: memory that is nobody's would be read."""
    adapter = on(model := Stack(), variant)
    for layer in adapter.layers().values():
        layer.to("meta")
    with assert_refuses(ll.TargetError, "^first: the adapter is on meta", claim="a forward with it on meta"):
        model(x(3))


@claim(st.just, stage="forward", subject="lora_lite")
def test_a_layer_whose_weight_alone_was_taken_away_is_refused(variant: str) -> None:
    """torch computes with a weight on the meta device where the bias lies elsewhere: with memory that is
    nobody's. Forward, save and merge; an engine whose own forward brings the weight is believed,
    but where the adapter reads it too.
    """
    on(model := Stack(), variant)
    layer, weight = model.first, model.first.weight
    gone = nn.Parameter(torch.empty(4, 4, device="meta"), requires_grad=False)
    layer.weight = gone
    with scratch_file() as path:
        for what, act, error, match in (
            ("a forward", lambda: layer(x(3)), ll.TargetError, "^first: the layer's weight is on meta"),
            ("save", lambda: ll.save(model, path), ll.BaseWeightError, "^first: its weight is on the meta"),
            ("merge", lambda: ll.merge(model), ll.BaseWeightError, "^first: its weight is on the meta"),
        ):
            with assert_refuses(error, match, claim=f"{what} with a weight that was taken away"):
                act()

    def forward(input: Tensor) -> Tensor:
        return nn.functional.linear(input, weight, layer.bias)

    layer.forward = forward  # type: ignore[method-assign]  # as an engine does
    with (
        assert_refuses(
            ll.TargetError, "^first: the layer's weight", claim="a forward that brings it too late"
        )
        if ll.VARIANTS[variant].rereads_weight
        else assert_runs("a forward that brings the weight")
    ):
        model(x(3))
