"""A model in the middle of its life, compared with the ledger of what should be true of it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.agreement import assert_agrees
from properties.judging.assertions import Violation, assert_all_identical, assert_holds, assert_identical
from properties.judging.expected import of_no_use
from properties.judging.life_ledger import Ledger
from properties.judging.needs import has_oracle
from properties.judging.snapshot import hooked
from properties.subjects import subject
from properties.subjects.layer_runs import Layer, watch
from strategies import upright


def look(ledger: Ledger, run: Callable[[nn.Module], Tensor]) -> dict[str, Layer]:
    """What every linear layer saw and gave, adapted or not; the parameters' gradients stay where they are."""
    layers = {}
    for name in ledger.linear:
        one = ledger.layers.get(name)
        tensors = subject.tensors(ledger.model).get(name, {})
        case: Any = one  # never asked for where there is no adapter
        weight = upright(ledger.model.get_submodule(name), ledger.base[f"{name}.weight"])
        bias = ledger.base.get(f"{name}.bias")
        layers[name] = Layer(name, case, weight, bias, tensors, {} if one is None else one.initial[name])
    ledger.output = watch(ledger.model, layers, run, 0).detach()
    return layers


def check(ledger: Ledger, run: Callable[[nn.Module], Tensor]) -> None:
    """The model is what it should be: tensors, flags, hooks, modes, handles, and what every layer of it
    computes and learns.
    """
    check_tensors(ledger)
    check_flags(ledger)
    layers = look(ledger, run)
    for name, layer in layers.items():
        if name not in ledger.layers:
            plain = F.linear(layer.x, layer.weight, layer.bias)
            assert_identical(layer.y, plain, what=f"the output of {name}, not adapted,", like="x Wᵀ + b")
        elif has_oracle(ll.VARIANTS[ledger.layers[name].variant]):
            check_layer(layer)
    check_gradients(ledger, layers)
    ledger.model.zero_grad()


def check_layer(layer: Layer) -> None:
    """Output and gradients by the oracle, those of parameters that the user froze aside."""
    frozen = {name for name, parameter in layer.trainable.items() if not parameter.requires_grad}
    assert_agrees(layer, frozen=frozen)


def check_untouched(ledger: Ledger, run: Callable[[nn.Module], Tensor]) -> None:
    """A model that the step was not about: the same tensors and flags, and the output bit for bit as
    before.
    """
    check_tensors(ledger)
    check_flags(ledger)
    if ledger.output is not None:
        what = "the output of a model that the step was not about"
        assert_identical(run(ledger.model), ledger.output, what=what, like="as before")


def check_tensors(ledger: Ledger) -> None:
    live = subject.tensors(ledger.model)
    found = f"adapters are on {list(live)}, wanted {list(ledger.layers)}"
    assert_holds(list(live) == list(ledger.layers), claim=found)
    for target, adapted in ledger.layers.items():
        what = f"the adapter of {target}"
        assert_all_identical(live[target], adapted.tensors[target], what=what, like="as its steps left it")
    own = {id(tensor) for tensors in live.values() for tensor in tensors.values()}
    named = ledger.model.state_dict(keep_vars=True)
    base = {name: tensor for name, tensor in named.items() if id(tensor) not in own}
    assert_all_identical(base, ledger.base, what="the base", like="as its steps left it")


def check_flags(ledger: Ledger) -> None:
    """Whose parameters train, where hooks hang, who is in train mode, and the handles."""
    flags = {name: ledger.model.get_parameter(name).requires_grad for name in ledger.flags}
    assert_alike(flags, ledger.flags, "requires_grad of the base")
    for one in ledger.adapters:
        named = {name: parameter.requires_grad for name, parameter in one.handle.named_parameters()}
        named |= {name: buffer.requires_grad for name, buffer in one.handle.named_buffers()}
        assert_alike(named, one.flags, f"requires_grad of the adapter on {list(one.tensors)}")
        found = f"the config of the handle is {one.handle.config}, wanted {one.config}"
        assert_holds(one.handle.config == one.config, claim=found)
    got, handles = ll.adapters_of(ledger.model), tuple(one.handle for one in ledger.adapters)
    if got != handles:
        # Told here alone: a handle's repr looks at all of the model.
        raise Violation(f"adapters_of(model) gives {got}, wanted {handles}")
    modules, hanging = dict(ledger.model.named_modules()), hooked(ledger.model)
    hooks = {name: hanging.count(name) for name in modules}
    wanted = {name: ledger.hooks.get(name, 0) + (name in ledger.layers) for name in modules}
    assert_alike(hooks, wanted, "the number of hooks")
    for name, module in modules.items():
        mode = ledger.training[name if name in ledger.training else name.rpartition(".")[0]]
        assert_holds(module.training == mode, claim=f"{name}.training is {module.training}, wanted {mode}")


def assert_alike(got: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
    """Equal by name; else the names at which they are not are told."""
    wrong = [name for name in {**wanted, **got} if got.get(name) != wanted.get(name)]
    told = "; ".join(f"{name or 'the model'}: {got.get(name)}, wanted {wanted.get(name)}" for name in wrong)
    assert_holds(not wrong, claim=f"{what}: {told}")


def check_gradients(ledger: Ledger, layers: Mapping[str, Layer]) -> None:
    """After a backward pass: what trains has a gradient, and nothing else has, nor what an adapter replaces,
    or takes nothing of.
    """
    thawed = {name: name.rpartition(".") for name in ledger.thawed}
    idle = {layer: of_no_use(layers[layer]) for layer, *_ in thawed.values() if layer in ledger.layers}
    flags = dict.fromkeys(ledger.flags, False)
    flags |= {name: tensor not in idle.get(layer, ()) for name, (layer, _, tensor) in thawed.items()}
    gradients = {name: ledger.model.get_parameter(name).grad for name in flags}
    for one in ledger.adapters:
        flags |= one.flags
        gradients |= {name: parameter.grad for name, parameter in one.handle.named_parameters()}
    for name, gradient in gradients.items():
        got, wanted = gradient is not None, flags[name]
        found = f"{name} got {'a' if got else 'no'} gradient where requires_grad is to be {wanted}"
        assert_holds(got == wanted, claim=found)
