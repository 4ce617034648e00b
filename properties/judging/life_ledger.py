"""What should be true of a model in the middle of its life, kept in plain bookkeeping."""

import copy
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import (
    assert_holds,
    bits,
)
from properties.judging.tolerance import coarser
from strategies import DTYPES, LINEAR, NestedRecipe
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
class Ledger:
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
        return [name for name, module in self.model.named_modules() if isinstance(module, LINEAR)]

    @property
    def thawed(self) -> list[str]:
        """The base's parameters that train beside the adapters, but for those that an adapter replaces."""
        replaced = {name for name, one in self.layers.items() if ll.VARIANTS[one.config.variant].replaces}
        return [n for n, flag in self.flags.items() if flag and n.rpartition(".")[0] not in replaced]

    def take_numbers_of(self, other: "Ledger") -> None:
        """As load_state_dict does, of base and adapters."""
        self.output = None
        self.lineage = other.lineage
        self.coarsest = coarser(self.coarsest, other.coarsest)
        self.base = {name: other.base[name].to(tensor.dtype) for name, tensor in self.base.items()}
        for target, adapted in self.layers.items():
            for side in ("tensors", "initial"):
                given, own = getattr(other.layers[target], side)[target], getattr(adapted, side)[target]
                own.update({name: given[name].to(tensor.dtype) for name, tensor in own.items()})
            adapted.rounded_to(coarser(self.coarsest, other.layers[target].dtype))

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

    def copied(self) -> "Ledger":
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

    def base_alone(self, fresh: "Ledger") -> "Ledger":
        """A fresh model of the same names and shapes, given the numbers that the base of this one has."""
        for name, tensor in fresh.model.to(self.dtype).named_buffers():
            tensor.data = tensor.data.to(self.base[name].dtype)  # as they were cast, or never were
        fresh.model.load_state_dict(self.base)
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


def new(recipe: NestedRecipe, frozen: tuple[int, ...]) -> Ledger:
    """A plain model."""
    model = recipe.build()
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i not in frozen)
    return Ledger(
        model,
        base={name: tensor.detach().clone() for name, tensor in model.state_dict().items()},
        flags={name: parameter.requires_grad for name, parameter in model.named_parameters()},
        training={name: module.training for name, module in model.named_modules()},
        lineage=recipe.seed,
        coarsest=DTYPES[recipe.dtype],
    )


def same_base(saved: Tensors, ledger: Ledger) -> bool:
    """Bit for bit, buffers too."""
    pairs = [(saved[name], ledger.base[name]) for name in ledger.base]
    return all(a.dtype == b.dtype and torch.equal(bits(a), bits(b)) for a, b in pairs)
