"""A model in the middle of its life, compared with the ledger of what should be true of it."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import assert_all_identical, assert_close, assert_holds, assert_identical
from properties.judging.expected import expected
from properties.judging.life_ledger import Ledger
from properties.judging.needs import has_oracle
from properties.judging.snapshot import hooks_of
from properties.judging.tolerance import Bounded, finite, perturbed, scatter
from properties.subjects import subject
from properties.subjects.observation import Layer, watch


def look(ledger: Ledger, run: Callable[[nn.Module], Tensor]) -> dict[str, Layer]:
    """What every linear layer saw and gave, adapted or not; the parameters' gradients stay where they are."""
    layers = {}
    for name in ledger.linear:
        one = ledger.layers.get(name)
        tensors = subject.tensors(ledger.model).get(name, {})
        case: Any = one  # never asked for where there is no adapter
        weight, bias = ledger.base[f"{name}.weight"], ledger.base.get(f"{name}.bias")
        layers[name] = Layer(name, case, weight, bias, tensors, {} if one is None else one.initial[name])
    ledger.output = watch(ledger.model, layers, run, 0).detach()
    return layers


def check(ledger: Ledger, run: Callable[[nn.Module], Tensor]) -> None:
    """The model is what it should be: tensors, flags, hooks, modes, handles, and what every layer of it
    computes and learns.
    """
    check_tensors(ledger)
    check_flags(ledger)
    for name, layer in look(ledger, run).items():
        if name not in ledger.layers:
            assert_identical(
                layer.y,
                F.linear(layer.x, layer.weight, layer.bias),
                what=f"the output of {name}, not adapted",
            )
        elif has_oracle(ll.VARIANTS[ledger.layers[name].variant]):
            check_layer(layer)
    check_gradients(ledger)
    ledger.model.zero_grad()


def check_layer(layer: Layer) -> None:
    """Output and gradients by the oracle, those of parameters that the user froze aside."""
    wanted = expected(layer)
    assert_close(layer.y, wanted.y, what=f"the output of {layer.name}", like="the oracle's")
    assert_close(layer.dx, wanted.dx, what=f"the gradient of {layer.name}'s input", like="the oracle's")
    for name, parameter in layer.trainable.items():
        if parameter.grad is not None:
            assert_close(
                parameter.grad,
                wanted.gradients[name],
                what=f"the gradient of {layer.name}.{name}",
                like="the oracle's",
            )


def check_untouched(ledger: Ledger, run: Callable[[nn.Module], Tensor]) -> None:
    """A model that the step was not about: the same tensors and flags, and the output bit for bit as
    before.
    """
    check_tensors(ledger)
    check_flags(ledger)
    if ledger.output is not None:
        assert_identical(run(ledger.model), ledger.output, what="the output of another model")


def check_tensors(ledger: Ledger) -> None:
    live = subject.tensors(ledger.model)
    assert_holds(
        list(live) == list(ledger.layers), claim=f"adapters on {list(live)}, wanted {list(ledger.layers)}"
    )
    for target, adapted in ledger.layers.items():
        assert_all_identical(live[target], adapted.tensors[target], what=f"the adapter of {target}")
    own = {id(tensor) for tensors in live.values() for tensor in tensors.values()}
    named = ledger.model.state_dict(keep_vars=True)
    assert_all_identical(
        {name: t for name, t in named.items() if id(t) not in own}, ledger.base, what="the base"
    )


def check_flags(ledger: Ledger) -> None:
    """Whose parameters train, where hooks hang, who is in train mode, and the handles."""
    flags = {name: ledger.model.get_parameter(name).requires_grad for name in ledger.flags}
    assert_holds(flags == ledger.flags, claim=f"requires_grad of the base {flags}, wanted {ledger.flags}")
    for one in ledger.adapters:
        named = {name: parameter.requires_grad for name, parameter in one.handle.named_parameters()}
        named |= {name: buffer.requires_grad for name, buffer in one.handle.named_buffers()}
        assert_holds(
            named == one.flags, claim=f"requires_grad of {one.handle} is {named}, wanted {one.flags}"
        )
        assert_holds(
            one.handle.config == one.config, claim=f"the handle says {one.handle.config}, wanted {one.config}"
        )
    handles = tuple(one.handle for one in ledger.adapters)
    assert_holds(
        ll.adapters_of(ledger.model) == handles,
        claim=f"{ll.adapters_of(ledger.model)} attached, wanted {handles}",
    )
    modules = dict(ledger.model.named_modules())
    hooks = {name: len(own) for name, own in hooks_of(ledger.model).items()}
    wanted = {name: ledger.hooks.get(name, 0) + (name in ledger.layers) for name in modules}
    assert_holds(hooks == wanted, claim=f"hooks {hooks}, wanted {wanted}")
    for name, module in modules.items():
        mode = ledger.training[name if name in ledger.training else name.rpartition(".")[0]]
        assert_holds(module.training == mode, claim=f"{name}.training is {module.training}, wanted {mode}")


def check_gradients(ledger: Ledger) -> None:
    """After a backward pass: what trains has a gradient, and nothing else."""
    flags = dict(ledger.flags)
    gradients = {name: ledger.model.get_parameter(name).grad for name in flags}
    for one in ledger.adapters:
        flags |= one.flags
        gradients |= {name: parameter.grad for name, parameter in one.handle.named_parameters()}
    for name, gradient in gradients.items():
        got, wanted = gradient is not None, flags[name]
        assert_holds(
            got == wanted,
            claim=f"{name} {'got a' if got else 'got no'} gradient, requires_grad should be {wanted}",
        )


def check_merged(merged: nn.Module, layer: Layer, bound: Bounded) -> None:
    """A plain layer that gives the oracle's output within the rounding of its new weight."""
    x, dtype = layer.x.detach().reshape(-1, layer.weight.shape[1]), layer.x.dtype
    copies = perturbed("merged", merged.get_parameter("weight"), dtype)
    bias = 0 if layer.bias is None else perturbed("merged bias", merged.get_parameter("bias"), dtype)[:, None]
    rounded = scatter(x.double() @ copies.mT + bias, dtype, overflowed=not finite([x]))
    assert_close(
        merged(x),
        Bounded(bound.value, bound.error + rounded.error),
        what=f"{layer.name}, merged,",
        like="the oracle's",
    )
