"""The handle of an adapter, what a model remembers of its adapters, and taking them off."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lora_lite.atomic import HOOKS, Step, at_once, attribute_as_it_is, layer_as_it_is
from lora_lite.config import AdapterConfig
from lora_lite.errors import NotAttachedError, TargetError
from lora_lite.spec import Variant
from lora_lite.statistics import let_move

# The child under which a target layer holds its adapter, and the attribute under which a model holds its
# handles.
CHILD = "lora_lite"
STATE = "_lora_lite"


@dataclass
class State:
    """What a model with adapters remembers: the handles, and the base parameters that attach froze."""

    adapters: list["Adapter"] = field(default_factory=list)
    # Names and not parameters: fully_shard and load_state_dict(assign=True) put others in their place.
    frozen: set[str] = field(default_factory=set)


class Adapter:
    """One attached adapter: a config on its target layers. What attach returns, and load for each in a file.

    model    the model, without the wrappers of torch.compile or DistributedDataParallel
    config   what attach was given, or the file held: a copy of its own
    targets  names of the layers that carry it, in the order of the model

    It ends with detach or merge: from then on its methods raise NotAttachedError.
    """

    def __init__(self, model: nn.Module, config: AdapterConfig, targets: tuple[str, ...]) -> None:
        self.model = model
        self.config = config
        self.targets = targets

    def layers(self) -> dict[str, Variant]:
        """The adapter module of each target. Raises NotAttachedError after detach."""
        if self not in adapters_of(self.model):
            raise NotAttachedError(
                f"This {self.config.variant} adapter is no longer attached. Attach or load it again."
            )
        return {name: getattr(self.model.get_submodule(name), CHILD) for name in self.targets}

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
        """Targets that no forward has reached since attach or load.

        After a forward: layers where this adapter does nothing.
        """
        return tuple(name for name, layer in self.layers().items() if not layer.reached)

    def detach(self) -> None:
        """Take this adapter off. After the last one the base's requires_grad flags are back as they were.

        Raises NotAttachedError where it is off already.
        """
        uninstall(self.model, [self] if self.layers() else [])

    def __repr__(self) -> str:
        shown = ", ".join(name or "the model itself" for name in self.targets[:4])
        more = f" and {len(self.targets) - 4} more" if len(self.targets) > 4 else ""
        return f"Adapter({self.config.variant} on {shown}{more})"


def adapters_of(model: nn.Module) -> tuple[Adapter, ...]:
    """The handles of the adapters on `model`, oldest first; empty where there are none."""
    state: State | None = getattr(model, STATE, None)
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
    own = {layer for adapter in adapters_of(model) for layer in adapter.layers().values()}
    strays = [
        name for name, module in model.named_modules() if isinstance(module, Variant) and module not in own
    ]
    if strays:
        raise TargetError(
            f"{strays[0].removesuffix('.' + CHILD)}: carries an adapter that was attached through another"
            f" module than this {type(model).__name__} ({len(strays)} such layers). Attach, save, merge and"
            " detach through one module."
        )


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of torch.compile and DistributedDataParallel, whose names have a prefix
    of their own.

    Raises TargetError for what is no module.
    """
    if not isinstance(model, nn.Module):
        hint = " Use the handle's own detach(), or its .model." if isinstance(model, Adapter) else ""
        raise TargetError(f"Found {model!r}, wanted the model, an nn.Module.{hint}")
    # Wrappers nest: a compiled model lies in DistributedDataParallel, or around it.
    inner = model.module if isinstance(model, DistributedDataParallel) else getattr(model, "_orig_mod", model)
    return model if inner is model or not isinstance(inner, nn.Module) else unwrapped(inner)


def take_down(layer: nn.Module) -> list[Step]:
    """What takes its adapter off a layer; nothing where it has none."""
    module = layer._modules.get(CHILD)
    if module is None or (hook := getattr(module, "hook", None)) is None:
        return [(layer._modules.pop, CHILD, None)]
    gone = [(getattr(layer, hooks).pop, hook.id, None) for hooks in HOOKS]
    return [(layer._modules.pop, CHILD, None), *gone]


def uninstall(model: nn.Module, adapters: list[Adapter]) -> None:
    at_once(*uninstalling(model, adapters))


def uninstalling(model: nn.Module, adapters: Iterable[Adapter]) -> tuple[list[Step], list[Step]]:
    """What takes these adapters off the model, and what puts them back on."""
    state: State = getattr(model, STATE)
    back = [attribute_as_it_is(model, STATE)]
    steps: list[Step] = []
    for layer in (model.get_submodule(name) for adapter in adapters for name in adapter.targets):
        back += layer_as_it_is(layer)
        steps += take_down(layer)
    if left := [adapter for adapter in state.adapters if adapter not in adapters]:
        # As long as one adapter is left, all of the base stays frozen.
        return [*steps, (vars(model).__setitem__, STATE, replace(state, adapters=left))], back
    for name, parameter in model.named_parameters():
        if name in state.frozen:
            steps.append((parameter.requires_grad_, True))
            back.append((parameter.requires_grad_, parameter.requires_grad))
    moving, still = let_move(model)
    return [*steps, *moving, (vars(model).pop, STATE, None)], [*back, *still]
