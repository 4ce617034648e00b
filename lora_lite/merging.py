"""merge: fold adapters into the base."""

import copy
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from lora_lite.atomic import at_once, gradients_as_before, layer_as_it_is
from lora_lite.base import refuse_absent
from lora_lite.errors import BaseWeightError, TargetError, naming
from lora_lite.handle import Adapter, attached, take_down, uninstalling, unwrapped
from lora_lite.hooks import refuse_another_weight
from lora_lite.journal import Journal
from lora_lite.linear import has_plain_weight, is_turned, linear_shape, turned
from lora_lite.names import CHILD, STATE, plain_modules
from lora_lite.trying import computes_linear


class Place(NamedTuple):
    """Where a module's tensor lies in memory, from byte to byte, and how far those before it and it reach."""

    begin: int
    end: int
    name: str
    module: nn.Module
    furthest: int


@gradients_as_before
def merge(model: nn.Module) -> None:
    """Fold every adapter into its layer's weight and bias and take it off: the same function as a plain
    model.

    Every adapted layer is affine in x, so that its weight (d_out, d_in) and bias can be read off a basis;
    this is done in float64 and rounded once to the base dtype, one layer after the other. All or nothing: on
    any error or interrupt the model is as before, bit for bit. Up to then the old weights are kept, where
    they take more than 64 MiB in a temporary file (TMPDIR): no second copy of the model is held in memory.

    Raises NotAttachedError, TargetError for what is no model or carries an adapter that was attached through
    another module, BaseWeightError where a base cannot hold the result: quantised, tied or parametrised
    weights, a forward or a hook of its own, an adapter that adds a constant to a layer without bias, a result
    that overflows; and OSError where there is no room for the old weights.
    """
    model = unwrapped(model)
    adapters = attached(model)
    # Prepared while they are on.
    off, _ = uninstalling(model, adapters)
    named = dict(plain_modules(model))
    layers = {name: named[name] for adapter in adapters for name in adapter.layers()}
    _refuse_disabled(layers)
    for layer in layers.values():
        refuse_another_weight(layer, thoroughly=True)
    _refuse_unreached(model, adapters)
    places = _places(model)
    for name, layer in layers.items():
        with naming(name):
            _refuse_unmergeable(model, layer, places)
    with closing(Journal()) as journal:
        try:
            for name, layer in layers.items():
                with naming(name):
                    _fold(layer, journal)
            # The line between before and after: from here on there is nothing to take back.
            at_once([*off, (journal.entries.clear,)])
        except BaseException:
            journal.take_back()
            raise


def _fold(layer: Any, journal: Journal) -> None:
    """Merge one layer and take its adapter off, in one go: at any time it computes the same."""
    weight, bias = _merged(layer)
    merged = [(layer.weight, weight), *([] if bias is None else [(layer.bias, bias)])]
    journal.keep([parameter for parameter, _ in merged], layer_as_it_is(layer))
    # In place: whoever holds the parameter holds the merged one.
    at_once([*((parameter.detach().copy_, new) for parameter, new in merged), *take_down(layer)])


# A decorator: an interrupt at the last line of a `with` would leave all of torch without gradients.
@torch.no_grad()
def _merged(layer: Any) -> tuple[Tensor, Tensor | None]:
    """The weight and bias of the adapted layer, in the base dtype."""
    # A copy, with adapter and hook: nothing of the model is widened. In eval mode: a user's variant may have
    # dropout.
    twin = copy.deepcopy(layer).double().eval()
    d_in = linear_shape(layer).d_in
    basis = torch.eye(d_in, dtype=torch.float64, device=layer.weight.device)
    # f(0) is the bias; f of the i-th unit vector less the bias is the i-th column of the weight.
    bias = twin(torch.zeros_like(basis[:1]))
    weight = (twin(basis) - bias).mT
    if layer.bias is None and bias.any():
        raise BaseWeightError(
            "merge: the adapter adds a constant and the layer has no bias to hold it. Give the layer a bias."
        )
    weight, bias = turned(layer, weight).to(layer.weight.dtype), bias.to(layer.weight.dtype)
    if not (weight.isfinite().all() and bias.isfinite().all()):
        found = f"the merged weight is not finite in {weight.dtype}"
        raise BaseWeightError(
            f"merge: {found}: it overflows, or the adapter holds NaN or Inf. Keep the adapter attached."
        )
    return weight, None if layer.bias is None else bias[0]


def _refuse_disabled(layers: Mapping[str, Any]) -> None:
    if off := [name for name, layer in layers.items() if layer._modules[CHILD].disabled]:
        raise TargetError(
            f"{', '.join(off[:5])}: merge: {len(off)} of {len(layers)} adapted layers are disabled, wanted"
            " adapters that act: the base alone would come out. Merge outside of disabled()."
        )


def _refuse_unreached(model: nn.Module, adapters: Iterable[Adapter]) -> None:
    """Raise TargetError where a forward has shown that a layer is not called: its weight may be read by who
    goes around it, and another function would come out. Where none ran yet, every layer counts as called.
    """
    dead = [name for adapter in adapters for name in adapter.dead()]
    if dead and vars(model)[STATE].seen["ran"]:
        raise TargetError(
            f"{', '.join(dead[:5])}: merge: the latest forward of the model did not reach {len(dead)} adapted"
            " layers, wanted all: their adapters do nothing, and who reads their weights would get others. If"
            " they are used at times, as experts are, run a forward that reaches them, or call them; else"
            " leave them out with exclude_names."
        )


def _refuse_unmergeable(model: nn.Module, layer: Any, places: Sequence[Place]) -> None:
    """A layer can be merged into if it computes x Wᵀ + b and nothing else, with tensors of its own."""
    refuse_absent(layer)
    if not has_plain_weight(layer) or not (isinstance(layer, nn.Linear) or is_turned(layer)):
        raise BaseWeightError(
            f"merge: {type(layer).__name__} holds no plain floating-point weight to fold into. "
            "Keep the adapter attached, or load it onto an unquantised base."
        )
    module: Any = layer._modules[CHILD]
    own = (module.hook, vars(model)[STATE].listener)
    held = (layer._forward_hooks, layer._forward_pre_hooks, _global_forward_hooks, _global_forward_pre_hooks)
    hooks = set(chain(*held)) - {handle.id for handle in own}
    # Engines put a forward of their own on the layer itself.
    plain = "forward" not in vars(layer)
    # Of a class that is not known here the numbers are asked.
    plain &= computes_linear(layer) if is_turned(layer) else type(layer).forward is nn.Linear.forward
    if not plain or "weight" not in layer._parameters or hooks:
        raise BaseWeightError(
            f"merge: {type(layer).__name__} computes more than x Wᵀ + b (a forward of its own, a parametrised"
            " weight or another hook), which would count twice. Take that away first, or keep the adapter"
            " attached."
        )
    own_numbers = [p for p in layer.parameters(recurse=False) if p.numel() > 1]
    if any(0 in p.stride() for p in own_numbers):
        raise BaseWeightError(
            "merge: its weight or bias is expanded: one number stands in several places. Give the layer a"
            " clone() of it, or keep the adapter attached."
        )
    if sharing := _sharing(places, layer):
        raise BaseWeightError(
            f"merge: its weight or bias is shared with {', '.join(sharing[:5])} (tied), which would change"
            " with it. Untie them first, or keep the adapter attached."
        )


def _places(model: nn.Module) -> list[Place]:
    """Where all parameters and buffers lie, by where they begin."""
    found = []
    for name, module in plain_modules(model):
        held = chain(module.parameters(recurse=False), module.buffers(recurse=False))
        found += [(*_memory(tensor), name, module) for tensor in held]
    found.sort(key=lambda place: place[0])
    ends = accumulate((end for _, end, _, _ in found), max)
    return [Place(*place, furthest) for place, furthest in zip(found, ends, strict=True)]


def _sharing(places: Sequence[Place], layer: nn.Module) -> list[str]:
    """The modules that hold some of the layer's own numbers, under any name, as a parameter or a buffer.

    Views of one flat buffer share its storage and need not share a number of it: memory is compared.
    """
    found = dict[str, None]()
    for begin, end in [_memory(parameter) for parameter in layer.parameters(recurse=False)]:
        at = bisect_left(places, end, key=attrgetter("begin")) - 1
        # Back to where nothing before reaches this far: few steps, where each has memory of its own.
        while at >= 0 and places[at].furthest > begin:
            if places[at].end > begin and places[at].module is not layer:
                found[places[at].name] = None
            at -= 1
    return list(found)


def _memory(tensor: Tensor) -> tuple[int, int]:
    """From which byte of memory to which it reaches; nowhere where it has no storage of its own."""
    try:
        begin = tensor.data_ptr()
    except RuntimeError:  # a tensor of a class of its own
        return 0, 0
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return begin, begin + (reach + 1) * tensor.element_size() if tensor.numel() else begin
