"""What should be true of a model in the middle of its life, kept in plain bookkeeping, and the comparison
with what is.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.agreement import assert_agrees
from properties.judging.assertions import assert_all_identical, assert_holds, assert_identical, bits
from properties.judging.needs import has_oracle
from properties.judging.snapshot import hooks_of
from properties.judging.tolerance import coarser
from properties.subjects import subject
from properties.subjects.observation import Layer, watch
from strategies import DTYPES, NestedRecipe
from strategies.options import Options

Tensors = dict[str, Tensor]


@dataclass
class Adapted:
    """What should be true of one adapter: tensors by target and name, now and as they were in the beginning.

    handle: the one that attach or load returned, or that a deep copy brought along.
    """

    config: ll.AdapterConfig
    options: Options
    tensors: dict[str, Tensors]
    initial: dict[str, Tensors]
    flags: dict[str, bool]
    handle: ll.Adapter

    @property
    def variant(self) -> str:
        return self.config.variant

    def calibration(self) -> None:
        """A life has its own."""

    @property
    def dtype(self) -> torch.dtype:
        return next(tensor.dtype for own in self.tensors.values() for tensor in own.values())

    def cast(self, dtype: torch.dtype) -> None:
        """All tensors, as Module.to casts them."""
        self.rounded_to(dtype)
        for tensors in (*self.tensors.values(), *self.initial.values()):
            tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()})

    def rounded_to(self, dtype: torch.dtype) -> None:
        """The oracle's bound goes by the coarsest dtype that the numbers, or those of the base they were made
        from, had.
        """
        options = dict(self.options)
        coarsest = coarser(dtype, DTYPES[options.get("dtype", "float32")])
        if refused_dtype(self.config, coarsest):
            coarsest = torch.bfloat16  # coarser still, and no config refuses it
        options["dtype"] = next(name for name, known in DTYPES.items() if known == coarsest)
        self.options = tuple(options.items())


@dataclass
class Truth:
    """A model, and what should be true of it.

    lineage, coarsest: equal where the base's numbers are, casts aside, and the coarsest dtype that it was
    cast to. thaw, gone: what will train again after the last detach, and the handles that are of no use any
    more.
    hooks: how many the user hung on each module.
    output: what it gave when it was last checked; None where that is not to be compared with.
    """

    model: nn.Module
    base: Tensors
    flags: dict[str, bool]
    training: dict[str, bool]
    lineage: object
    coarsest: torch.dtype
    adapters: list[Adapted] = field(default_factory=list)
    thaw: set[str] = field(default_factory=set)
    gone: list[ll.Adapter] = field(default_factory=list)
    hooks: dict[str, int] = field(default_factory=dict)
    output: Tensor | None = None

    @property
    def layers(self) -> dict[str, Adapted]:
        """The adapter of each layer that has one."""
        return {target: adapted for adapted in self.adapters for target in adapted.tensors}

    @property
    def dtype(self) -> torch.dtype:
        return self.base["readout.weight"].dtype

    @property
    def linear(self) -> list[str]:
        return [name for name, module in self.model.named_modules() if isinstance(module, nn.Linear)]

    def put_on(self, *adapted: Adapted) -> None:
        """Hang adapters on: the base freezes."""
        self.adapters += adapted
        self.thaw |= {name for name, flag in self.flags.items() if flag}
        self.flags = dict.fromkeys(self.flags, False)

    def take_off(self, *adapted: Adapted) -> None:
        """After the last one the base trains again where it did."""
        self.gone += [one.handle for one in adapted]
        self.adapters = [one for one in self.adapters if one not in adapted]
        if not self.adapters:
            self.flags = {name: flag or name in self.thaw for name, flag in self.flags.items()}
            self.thaw = set()

    def copied(self) -> "Truth":
        """Of a deep copy, made by hand: nothing but the numbers is taken over."""
        model = copy.deepcopy(self.model)
        handles = ll.adapters_of(model)
        originals = [one.handle for one in self.adapters]
        found = f"a deep copy carries {handles}, the original {originals}"
        assert_holds(len(handles) == len(originals), claim=found)
        adapters = [
            replace(
                one,
                tensors=copied(one.tensors),
                initial=copied(one.initial),
                flags=dict(one.flags),
                handle=handle,
            )
            for one, handle in zip(self.adapters, handles, strict=True)
        ]
        return replace(
            self,
            model=model,
            base={name: tensor.clone() for name, tensor in self.base.items()},
            flags=dict(self.flags),
            training=dict(self.training),
            adapters=adapters,
            thaw=set(self.thaw),
            gone=[],
            hooks=dict(self.hooks),
        )

    def base_alone(self, fresh: "Truth") -> "Truth":
        """A fresh model of the same names and shapes, given the numbers that the base of this one has."""
        fresh.model.to(self.dtype).load_state_dict(self.base)
        base = {name: tensor.detach().clone() for name, tensor in fresh.model.state_dict().items()}
        return replace(fresh, base=base, lineage=self.lineage, coarsest=self.coarsest)


def refused_dtype(config: ll.AdapterConfig, dtype: torch.dtype) -> bool:
    """Whether this config cannot be had in this dtype; a model that was cast to it works for all that."""
    try:
        replace(config, dtype=dtype)
    except ll.ConfigError:
        return True
    return False


def copied(tensors: dict[str, Tensors]) -> dict[str, Tensors]:
    return {
        target: {name: tensor.detach().clone() for name, tensor in own.items()}
        for target, own in tensors.items()
    }


def new(recipe: NestedRecipe, frozen: tuple[int, ...]) -> Truth:
    """A plain model."""
    model = recipe.build()
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i not in frozen)
    return Truth(
        model,
        base={name: tensor.detach().clone() for name, tensor in model.state_dict().items()},
        flags={name: parameter.requires_grad for name, parameter in model.named_parameters()},
        training={name: module.training for name, module in model.named_modules()},
        lineage=recipe.seed,
        coarsest=DTYPES[recipe.dtype],
    )


def same_parameters(saved: Tensors, truth: Truth) -> bool:
    """Bit for bit, buffers aside."""
    pairs = [(saved[name], truth.base[name]) for name in truth.flags]
    return all(a.dtype == b.dtype and torch.equal(bits(a), bits(b)) for a, b in pairs)


def look(truth: Truth, run: Callable[[nn.Module], Tensor]) -> dict[str, Layer]:
    """What every linear layer saw and gave, adapted or not; the parameters' gradients stay where they are."""
    layers = {}
    for name in truth.linear:
        one = truth.layers.get(name)
        tensors = subject.tensors(truth.model).get(name, {})
        case: Any = one  # never asked for where there is no adapter
        weight, bias = truth.base[f"{name}.weight"], truth.base.get(f"{name}.bias")
        layers[name] = Layer(name, case, weight, bias, tensors, {} if one is None else one.initial[name])
    truth.output = watch(truth.model, layers, run, 0).detach()
    return layers


def check(truth: Truth, run: Callable[[nn.Module], Tensor]) -> None:
    """The model is what it should be: tensors, flags, hooks, modes, handles, and what every layer of it
    computes and learns.
    """
    check_tensors(truth)
    check_flags(truth)
    for name, layer in look(truth, run).items():
        if name not in truth.layers:
            plain = F.linear(layer.x, layer.weight, layer.bias)
            assert_identical(layer.y, plain, what=f"the output of {name}, not adapted,", like="x Wᵀ + b")
        elif has_oracle(ll.VARIANTS[truth.layers[name].variant]):
            check_layer(layer)
    check_gradients(truth)
    truth.model.zero_grad()


def check_layer(layer: Layer) -> None:
    """Output and gradients by the oracle, those of parameters that the user froze aside."""
    frozen = {name for name, parameter in layer.trainable.items() if not parameter.requires_grad}
    assert_agrees(layer, frozen=frozen)


def check_untouched(truth: Truth, run: Callable[[nn.Module], Tensor]) -> None:
    """A model that the step was not about: the same tensors and flags, and the output bit for bit as
    before.
    """
    check_tensors(truth)
    check_flags(truth)
    if truth.output is not None:
        what = "the output of a model that the step was not about"
        assert_identical(run(truth.model), truth.output, what=what, like="as before")


def check_tensors(truth: Truth) -> None:
    live = subject.tensors(truth.model)
    found = f"adapters are on {list(live)}, wanted {list(truth.layers)}"
    assert_holds(list(live) == list(truth.layers), claim=found)
    for target, adapted in truth.layers.items():
        what = f"the adapter of {target}"
        assert_all_identical(live[target], adapted.tensors[target], what=what, like="as its steps left it")
    own = {id(tensor) for tensors in live.values() for tensor in tensors.values()}
    named = truth.model.state_dict(keep_vars=True)
    base = {name: tensor for name, tensor in named.items() if id(tensor) not in own}
    assert_all_identical(base, truth.base, what="the base", like="as its steps left it")


def check_flags(truth: Truth) -> None:
    """Whose parameters train, where hooks hang, who is in train mode, and the handles."""
    flags = {name: truth.model.get_parameter(name).requires_grad for name in truth.flags}
    assert_alike(flags, truth.flags, "requires_grad of the base")
    for one in truth.adapters:
        named = {name: parameter.requires_grad for name, parameter in one.handle.named_parameters()}
        named |= {name: buffer.requires_grad for name, buffer in one.handle.named_buffers()}
        assert_alike(named, one.flags, f"requires_grad of {one.handle}")
        found = f"the config of the handle is {one.handle.config}, wanted {one.config}"
        assert_holds(one.handle.config == one.config, claim=found)
    got, handles = ll.adapters_of(truth.model), tuple(one.handle for one in truth.adapters)
    assert_holds(got == handles, claim=f"adapters_of(model) gives {got}, wanted {handles}")
    modules = dict(truth.model.named_modules())
    hooks = {name: len(own) for name, own in hooks_of(truth.model).items()}
    wanted = {name: truth.hooks.get(name, 0) + (name in truth.layers) for name in modules}
    assert_alike(hooks, wanted, "the number of hooks")
    for name, module in modules.items():
        mode = truth.training[name if name in truth.training else name.rpartition(".")[0]]
        assert_holds(module.training == mode, claim=f"{name}.training is {module.training}, wanted {mode}")


def assert_alike(got: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
    """Equal by name; else the names at which they are not are told."""
    wrong = [name for name in {**wanted, **got} if got.get(name) != wanted.get(name)]
    told = "; ".join(f"{name or 'the model'}: {got.get(name)}, wanted {wanted.get(name)}" for name in wrong)
    assert_holds(not wrong, claim=f"{what}: {told}")


def check_gradients(truth: Truth) -> None:
    """After a backward pass: what trains has a gradient, and nothing else."""
    flags = dict(truth.flags)
    gradients = {name: truth.model.get_parameter(name).grad for name in flags}
    for one in truth.adapters:
        flags |= one.flags
        gradients |= {name: parameter.grad for name, parameter in one.handle.named_parameters()}
    for name, gradient in gradients.items():
        got, wanted = gradient is not None, flags[name]
        found = f"{name} got {'a' if got else 'no'} gradient where requires_grad is to be {wanted}"
        assert_holds(got == wanted, claim=found)
