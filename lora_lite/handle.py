"""The handle of an adapter, what a model remembers of its adapters, and taking them off."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from html import escape
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lora_lite.atomic import HOOKS, Step, at_once, attribute_as_it_is, layer_as_it_is
from lora_lite.config import AdapterConfig
from lora_lite.coverage import Coverage, coverage, left_alone
from lora_lite.disabling import Disabled
from lora_lite.effects import effects
from lora_lite.errors import NotAttachedError, TargetError
from lora_lite.fast_paths import switch_on
from lora_lite.hooks import ADAPTING
from lora_lite.names import CHILD, STATE, Place, base_parameters, plain_modules, without_wrappers
from lora_lite.spec import Variant
from lora_lite.statistics import let_move


@dataclass
class State:
    """What a model with adapters remembers: the handles, the base parameters that attach froze, the hook by
    which it notices a forward, and whether there was one since the last attach or load.
    """

    adapters: list["Adapter"] = field(default_factory=list)
    # Names and not parameters: fully_shard and load_state_dict(assign=True) put others in their place.
    frozen: set[str] = field(default_factory=set)
    listener: RemovableHandle | None = None
    # What the listener writes: plain dicts, since torch.compile traces it.
    seen: dict[str, bool] = field(default_factory=lambda: {"ran": False})
    marks: list[dict[str, bool]] = field(default_factory=list)
    # The layers whose adapter started from their weight.
    started_from: list[nn.Module] = field(default_factory=list)
    # The base's buffers, and how the forward that is on its way found them.
    buffers: list[Place] = field(default_factory=list)
    stamps: list[Any] = field(default_factory=list)


class Adapter:
    """One attached adapter: a config on its target layers. What attach returns, and load for each in a file.

    model    the model, without the wrappers of torch.compile, DistributedDataParallel and the like
    config   what attach was given, or the file held: a copy of its own
    targets  names of the layers that carry it, in the order of the model, as they were then: of the plain
             model, whatever wraps it or a part of it

    It ends with detach or merge: from then on its methods raise NotAttachedError. Where one of its layers was
    taken out of the model or replaced they raise TargetError, but for detach.
    """

    def __init__(
        self, model: nn.Module, config: AdapterConfig, targets: tuple[str, ...], layers: Iterable[nn.Module]
    ) -> None:
        self.model = model
        self.config = config
        self.targets = targets
        self._layers = tuple(layers)

    def layers(self) -> dict[str, Variant]:
        """The adapter module of each target, by the name that its layer has now.

        Raises NotAttachedError after detach, TargetError where a layer or its adapter is gone.
        """
        self._refuse_detached()
        found, gone = self._look()
        if gone:
            raise TargetError(
                f"{'; '.join(gone[:5])}: {len(gone)} of {len(self.targets)} layers of this"
                f" {self.config.variant} adapter, wanted as at attach. Put them back; or detach, and"
                " attach or load again on the model as it is."
            )
        return {name: carrier._modules[CHILD] for name, carrier in found.items()}  # type: ignore[misc]  # a Variant

    def _refuse_detached(self) -> None:
        if self not in adapters_of(self.model):
            raise NotAttachedError(
                f"This {self.config.variant} adapter is no longer attached. Attach or load it again."
            )

    def _look(self) -> tuple[dict[str, nn.Module], list[str]]:
        """The layers that carry it, by the names that they have now; and what became of the others."""
        named = dict(plain_modules(self.model))
        now: dict[nn.Module, str] = {}
        for name, module in named.items():
            now.setdefault(module, name)
        found, gone = dict[str, nn.Module](), list[str]()
        for target, layer in zip(self.targets, self._layers, strict=True):
            # The layer itself, wherever it is now; else a copy of it in its place.
            there = layer if layer in now else named.get(target)
            if there is not None and isinstance(there._modules.get(CHILD), Variant):
                found[now[there]] = there
            elif there is None:
                gone.append(f"{target} was deleted from the model")
            else:
                gone.append(f"{target} is a {type(there).__name__} without the adapter, replaced or stripped")
        return found, gone

    def own(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The base parameters of its layers, by name as attached, wherever they are now."""
        for target, layer in zip(self.targets, self._layers, strict=True):
            for name, parameter in layer._parameters.items():
                if parameter is not None:
                    yield f"{target}.{name}" if target else name, parameter

    def carriers(self) -> list[nn.Module]:
        """Every layer that may carry it: as attached, and as found in the model."""
        return list(dict.fromkeys([*self._layers, *self._look()[0].values()]))

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Trainable parameters as ("layers.0.q_proj.A", parameter); shapes are in help() of the variant."""
        for target, layer in self.layers().items():
            for name, parameter in layer.named_parameters():
                yield f"{target}.{name}", parameter

    def parameters(self) -> Iterator[nn.Parameter]:
        """Trainable parameters: what an optimiser wants."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Frozen tensors, named as the parameters are. A variant need not have any."""
        for target, layer in self.layers().items():
            for name, buffer in layer.named_buffers():
                yield f"{target}.{name}", buffer

    def dead(self) -> tuple[str, ...]:
        """Targets that the latest forward of the model has not reached: layers where the adapter did nothing.

        Before the first one since attach or load: all. What calls of parts of the model reach counts too, up
        to the next forward of the model itself.
        """
        return tuple(name for name, layer in self.layers().items() if not layer.reached)

    def effect(self, batches: Iterable[Any]) -> dict[str, float]:
        """How much the adapter changes the output of each target: ‖change‖ / ‖output without it‖, over all
        that the batches bring there, with the adapters of the other layers on.

        batches   a batch is a tensor, a tuple or list of positional arguments or a mapping of keyword
                  arguments; each runs through the model once, in eval mode and without gradients. Nothing is
                  other afterwards: modes, hooks, dead(), and what torch draws next

        0.0 where it changes nothing, NaN where nothing reached the layer, inf where the layer gives zeros
        without it. The change is seen in the layer's dtype: less than that rounds is 0.

        Raises NotAttachedError, TargetError; CalibrationError where there is no batch, one that the model
        does not take, or NaN or Inf comes of it.
        """
        self.layers()
        return effects(self.model, self._look()[0], batches)

    def disabled(self) -> Disabled:
        """`with adapter.disabled():` it has no effect, and others on the model do: see help(ll.disabled)."""
        return Disabled(lambda: self.layers().values())

    def detach(self) -> None:
        """Take this adapter off. After the last one the base's requires_grad flags are back as they were.

        Raises NotAttachedError where it is off already.
        """
        self._refuse_detached()
        uninstall(self.model, [self])

    @property
    def left_alone(self) -> dict[str, str]:
        """What of the model no adapter is on: modules with a matrix of their own, by name, and why."""
        self._refuse_detached()
        return left_alone(self.model)

    @property
    def share(self) -> float:
        """The share of the base's parameters that the layers of this adapter hold, from 0 to 1. Quantised
        weights count as their codes.

        Raises NotAttachedError after detach.
        """
        self._refuse_detached()
        found = self._coverage()
        return 0.0 if found is None else found.adapted / max(1, found.base)

    def __repr__(self) -> str:
        found = self._coverage()
        if found is not None:
            return found.text()
        shown = ", ".join(name or "the model itself" for name in self.targets[:4])
        more = f" and {len(self.targets) - 4} more" if len(self.targets) > 4 else ""
        return f"Adapter({self.config.variant} on {shown}{more}, no longer attached)"

    def _repr_html_(self) -> str:
        found = self._coverage()
        return escape(repr(self)) if found is None else found.html()

    def _coverage(self) -> Coverage | None:
        """None where it is detached; of the layers that are still there where one was taken out."""
        if self not in adapters_of(self.model):
            return None
        carriers, _ = self._look()
        layers: dict[str, Variant] = {
            name: layer._modules[CHILD]  # type: ignore[misc]  # a Variant
            for name, layer in carriers.items()
        }
        return coverage(self.model, self.config.variant, layers, carriers.values())


def adapters_of(model: nn.Module) -> tuple[Adapter, ...]:
    """The handles of the adapters on `model`, oldest first; empty where there are none."""
    state: State | None = getattr(without_wrappers(model), STATE, None)
    return tuple(state.adapters) if state else ()


def attached(model: nn.Module) -> tuple[Adapter, ...]:
    """adapters_of(model), where there must be one and no other. Raises NotAttachedError, TargetError."""
    refuse_strays(model)
    if not (adapters := adapters_of(model)):
        raise NotAttachedError(
            f"This {type(model).__name__} carries no adapter. Call attach or load first, on this very module."
        )
    return adapters


def refuse_strays(model: nn.Module) -> None:
    """Raise TargetError where the model carries adapters that were attached through another module."""
    own = {layer._modules.get(CHILD) for adapter in adapters_of(model) for layer in adapter.carriers()}
    strays = [
        name for name, module in plain_modules(model) if isinstance(module, Variant) and module not in own
    ]
    if strays:
        raise TargetError(
            f"{strays[0].removesuffix('.' + CHILD)}: carries an adapter that was attached through another"
            f" module than this {type(model).__name__} ({len(strays)} such layers). Attach, save, merge and"
            " detach through one module."
        )


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of torch.compile, DistributedDataParallel and the like, whose names have
    a prefix of their own.

    Raises TargetError for what is no module.
    """
    if not isinstance(model, nn.Module):
        hint = " Use the handle's own detach(), or its .model." if isinstance(model, Adapter) else ""
        found = repr(model).partition("\n")[0]
        raise TargetError(f"Found {found}, wanted the model, an nn.Module.{hint}")
    return without_wrappers(model)


def take_down(layer: nn.Module) -> list[Step]:
    """What takes its adapter off a layer, or what is left of it; nothing where it has none."""
    module = layer._modules.get(CHILD)
    if module is None or (hook := getattr(module, "hook", None)) is None:
        # Its child was taken away alone.
        held = (*layer._forward_pre_hooks.items(), *layer._forward_hooks.items())
        left = [number for number, hook in held if hook in ADAPTING]
        return [(getattr(layer, hooks).pop, number, None) for number in left for hooks in HOOKS]
    gone = [(getattr(layer, hooks).pop, hook.id, None) for hooks in HOOKS]
    return [(layer._modules.pop, CHILD, None), *gone]


def uninstall(model: nn.Module, adapters: list[Adapter]) -> None:
    at_once(*uninstalling(model, adapters))


def uninstalling(model: nn.Module, adapters: Iterable[Adapter]) -> tuple[list[Step], list[Step]]:
    """What takes these adapters off the model, and what puts them back on."""
    state: State = getattr(model, STATE)
    back = [attribute_as_it_is(model, STATE)]
    steps: list[Step] = []
    for layer in (layer for adapter in adapters for layer in adapter.carriers()):
        back += layer_as_it_is(layer)
        steps += take_down(layer)
    if left := [adapter for adapter in state.adapters if adapter not in adapters]:
        # As long as one adapter is left, all of the base stays frozen.
        return [*steps, (vars(model).__setitem__, STATE, replace(state, adapters=left))], back
    # A layer that was taken out of the model gets its flags back too.
    for name, parameter in chain(base_parameters(model), *(adapter.own() for adapter in adapters)):
        if name in state.frozen:
            steps.append((parameter.requires_grad_, True))
            back.append((parameter.requires_grad_, parameter.requires_grad))
    back += layer_as_it_is(model)
    if state.listener is not None:
        steps += [(getattr(model, hooks).pop, state.listener.id, None) for hooks in HOOKS]
    for undo in (let_move, switch_on):
        undone, again = undo(model)
        steps += undone
        back += again
    return [*steps, (vars(model).pop, STATE, None)], back
