"""The comparisons that most claims end in: an observed layer with its oracle or its base, what init put into
the tensors with the oracle's laws, and what was loaded with what was saved.
"""

from collections.abc import Container, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import (
    assert_all_identical,
    assert_close,
    assert_holds,
    assert_nonzero,
    assert_refuses,
    assert_within,
    assert_zero,
)
from properties.judging.expected import Expected, expected, expected_output, options_of
from properties.judging.files import scratch_file
from properties.judging.outcome import NotJudgedError
from properties.judging.own_formula import formula_of, its_formula
from properties.judging.tolerance import Bounded, claim_bound, coarser, finite, perturbed, scatter
from properties.oracles import Law
from properties.subjects import subject
from properties.subjects.attaching import Attached
from properties.subjects.layer_runs import Layer
from properties.subjects.protocol import Case, adapter_dtype
from strategies import weight_and_bias


def assert_agrees(
    layer: Layer,
    wanted: Expected | None = None,
    *,
    output: bool = True,
    dx: bool = True,
    frozen: Container[str] = (),
    where: str = "",
    like: str = "",
) -> None:
    """The layer's output, the gradient of each of its parameters and that of its input are the oracle's.

    wanted: what to compare with in place of the oracle. output, dx: False leaves it out. frozen: the
    parameters that the user froze, which get no gradient. where: in which state of the layer, to be read
    after what is looked at. like: "" for its formula's.
    """
    wanted, like = wanted or expected(layer), like or its_formula(layer.case.variant)
    where = f" {where}" if where else ""
    if output:
        assert_close(layer.y, wanted.y, what=f"the output of layer {layer.name}{where}", like=like)
    assert_trains(layer, frozen)
    for name, gradient in layer.gradients.items():
        if name not in frozen:
            what = f"the gradient of {name} of layer {layer.name}{where}"
            assert_close(gradient, wanted.gradients[name], what=what, like=like)
    if dx:
        what = f"the gradient of the input of layer {layer.name}{where}"
        assert_close(layer.dx, wanted.dx, what=what, like=like)


def assert_trains(layer: Layer, frozen: Container[str] = ()) -> None:
    """Each of the adapter's parameters requires a gradient: a frozen one would be told as a gradient of 0."""
    for name, parameter in layer.trainable.items():
        found = f"requires_grad of {name} of layer {layer.name} is False: it never learns"
        assert_holds(parameter.requires_grad or name in frozen, claim=found)


def assert_gives_the_base(layer: Layer, bound: Bounded | None = None) -> None:
    """At init, to rounding: the output is x Wᵀ + b within the bound that the oracle's output has there.

    x Wᵀ + b is taken in float64: of a method in the base's place the bound has no room for what the base
    itself is off by.
    """
    bias = None if layer.bias is None else layer.bias.detach().double()
    base = torch.nn.functional.linear(layer.x.detach().double(), layer.weight.detach().double(), bias)
    error = (expected_output(layer) if bound is None else bound).error.reshape(base.shape)
    what = f"the output of layer {layer.name} at init"
    assert_close(layer.y, Bounded(base, error), what=what, like="the base's, to rounding")


@torch.no_grad()
def add_a_constant(model: nn.Module) -> list[str]:
    """The adapted layers without a bias that are not 0 at 0: no plain layer computes what they do."""
    found = []
    for name in subject.tensors(model):
        layer: Any = model.get_submodule(name)
        weight, bias = weight_and_bias(layer)
        if bias is None and bool(layer(weight.new_zeros(1, weight.shape[1])).any()):
            found.append(name)
    return found


def merge_or_see_refused(model: nn.Module) -> bool:
    """Whether merge took the adapters off: where one adds a constant that its layer has no bias for, merge
    must refuse it.
    """
    if not (constant := add_a_constant(model)):
        subject.merge(model)
        return True
    match = f"{constant[0]}: merge: the adapter adds a constant"
    tried = f"merge of adapters that add a constant into {constant}, which have no bias,"
    with assert_refuses(ll.BaseWeightError, match, claim=tried):
        subject.merge(model)
    return False


def assert_merged(merged: Any, layer: Layer, bound: Bounded) -> None:
    """A plain layer that gives the oracle's output at what `layer` saw before the merge.

    bound: of the output, to which the rounding of the merged weight to the base dtype is added.
    """
    x, dtype = layer.x.detach().reshape(-1, layer.weight.shape[1]), layer.x.dtype
    weight, constant = weight_and_bias(merged)
    copies = perturbed("merged", weight, dtype)
    bias = 0 if constant is None else perturbed("merged bias", constant, dtype)[:, None]
    rounded = scatter(x.double() @ copies.mT + bias, dtype, overflowed=not finite([x]))
    wanted = Bounded(bound.value, bound.error + rounded.error)
    assert_close(
        merged(x),
        wanted,
        what=f"the output of layer {layer.name}, merged,",
        like=its_formula(layer.case.variant),
    )


def init_laws(
    case: Case, W: Tensor, tensors: Mapping[str, Tensor], inputs: Tensor | None
) -> tuple[torch.dtype, list[Law]]:
    """The oracle's laws of these tensors right after attach, and the dtype whose rounding they may be off by.

    W (d_out, d_in) in the base's dtype; inputs (tokens, d_in): what calibration gave the layer, if it did.
    """
    dtype = coarser(adapter_dtype(case), torch.promote_types(W.dtype, torch.float32))
    p = {name: tensor.double() for name, tensor in tensors.items()}
    return dtype, formula_of(case.variant).init_laws(W.double(), None, p, options_of(case), inputs)


def assert_init(
    case: Case, name: str, W: Tensor, tensors: Mapping[str, Tensor], inputs: Tensor | None
) -> None:
    """What attach put into the tensors of layer `name` keeps init_laws(). Raises NotJudgedError where there
    are none, for any init would keep them.
    """
    dtype, laws = init_laws(case, W, tensors, inputs)
    if not laws:
        raise NotJudgedError(
            f"the oracle of {case.variant} states no law of its init: have init_laws return a"
            " properties.oracles.Law(name, got, wanted, magnitude) for each tensor"
        )
    for law in laws:
        what, bound = f"the init law {law.name} on layer {name}", claim_bound(law.magnitude, dtype)
        assert_within(law.got, law.wanted, bound, what=what, like="kept", dtype=dtype)


def assert_first_gradients(attached: Attached, layers: list[Layer]) -> None:
    """Each parameter's first gradient is exactly zero or truly not, as it is declared."""
    declared = subject.first_gradients(attached.model)
    for layer in layers:
        assert_trains(layer)
        for name, gradient in layer.gradients.items():
            what = f"the first gradient of {name} of layer {layer.name}"
            if declared[layer.name][name] == "zero":
                assert_zero(gradient, what=f"{what}, declared zero,")
            else:
                assert_nonzero(gradient, what=f"{what}, declared nonzero,")


def assert_only_adapters_have_gradients(model: nn.Module) -> None:
    """After a backward pass adapter parameters alone hold gradients, and each of them does."""
    own = {id(tensor) for tensors in subject.tensors(model).values() for tensor in tensors.values()}
    for name, parameter in model.named_parameters():
        if id(parameter) in own:
            frozen = "" if parameter.requires_grad else ": its requires_grad is False"
            assert_holds(parameter.grad is not None, claim=f"{name} of the adapter got no gradient{frozen}")
        else:
            assert_holds(parameter.grad is None, claim=f"{name} of the base got a gradient")
            assert_holds(not parameter.requires_grad, claim=f"{name} of the base still requires a gradient")


def round_trip(model: nn.Module, onto: nn.Module) -> nn.Module:
    """`onto`, a fresh base, with what was saved of `model` loaded onto it."""
    with scratch_file() as path:
        subject.save(model, path)
        subject.load(onto, path)
    return onto


def assert_loaded(loaded: nn.Module, saved: Mapping[str, dict[str, Tensor]], *, where: str = "") -> None:
    """The adapters on `loaded` are those, on the same layers in the same order, bit for bit."""
    where = f" {where}" if where else ""
    got = subject.tensors(loaded)
    assert_holds(list(got) == list(saved), claim=f"loaded onto {list(got)}{where}, saved from {list(saved)}")
    for target, tensors in saved.items():
        assert_all_identical(
            got[target], tensors, what=f"the adapter loaded onto {target}{where}", like="what was saved"
        )
