"""attach, detach, and the handle that attach returns."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import setitem
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from lora_lite.atomic import HOOKS, Step, at_once, attribute_as_it_is, layer_as_it_is
from lora_lite.calibration import calibrate, first_argument
from lora_lite.config import AdapterConfig
from lora_lite.errors import (
    BaseWeightError,
    CalibrationError,
    ConfigError,
    NotAttachedError,
    TargetError,
    naming,
)
from lora_lite.linear import all_finite, has_plain_weight, linear_shape, read_weight
from lora_lite.parallel import refuse_split
from lora_lite.spec import VARIANTS, Variant
from lora_lite.targets import find_targets

# The child under which a target layer holds its adapter, and the attribute under which a model holds its
# handles.
CHILD = "lora_lite"
STATE = "_lora_lite"


@dataclass
class _State:
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
        _uninstall(self.model, [self] if self.layers() else [])

    def __repr__(self) -> str:
        shown = ", ".join(name or "the model itself" for name in self.targets[:4])
        more = f" and {len(self.targets) - 4} more" if len(self.targets) > 4 else ""
        return f"Adapter({self.config.variant} on {shown}{more})"


def attach(model: nn.Module, config: AdapterConfig, calibration_data: Iterable[Any] | None = None) -> Adapter:
    """Put an adapter on the layers of `model` that `config` selects, and freeze the base.

    No base parameter or buffer is ever written. If anything fails, the model is exactly as before.

    config            of a registered variant, such as LoRAConfig; a copy of it is kept
    calibration_data  batches, for the variants whose init looks at inputs (eva must have it, antipasto may;
                      others do not look at it). A batch is a tensor, a tuple or list of positional arguments
                      or a mapping of keyword arguments. Each runs through the model once, in eval mode

    Returns the handle, whose parameters() an optimiser takes.

    Raises ConfigError where the config is no registered variant's or cannot work on a layer, or the values
    that the adapter starts from overflow its dtype; TargetError where the config selects nothing or a layer
    cannot carry an adapter, or carries one; BaseWeightError where a base holds NaN or Inf, or cannot be read
    as floating-point numbers by a variant that must; CalibrationError.
    """
    model = attachable(model)
    variant = variant_of(config)
    config = config.tried()  # a copy: what is done to the caller's own from here on has no effect
    targets = find_targets(model, config)
    refuse_overlap(targets)
    # Every layer is checked before the first batch runs and the first SVD is taken.
    for name, layer in targets.items():
        with naming(name):
            variant.check(linear_shape(layer), config)
            refuse_non_finite_base(layer, read=variant.reads_weight)
    statistics = _statistics(model, variant, config, targets, calibration_data)
    configs = variant.allocate(config, statistics)
    # Built beside the model: what fails before install leaves nothing to undo.
    modules = {}
    for name, layer_config in configs.items():
        layer = targets[name]
        with naming(name):
            modules[name] = variant(linear_shape(layer), layer_config, device=device_of(layer))
            modules[name].reset(layer, statistics[name])
            _refuse_non_finite(modules[name])
    return install(model, [(config, modules)])[0]


def _statistics(
    model: nn.Module,
    variant: type[Variant],
    config: AdapterConfig,
    targets: Mapping[str, nn.Module],
    data: Iterable[Any] | None,
) -> dict[str, Any]:
    if data is None:
        if variant.needs_calibration:
            raise CalibrationError(
                f"{variant.name} starts from the layers' inputs. Give attach calibration_data."
            )
        return dict.fromkeys(targets)
    statistics = {name: variant.calibrator(layer, config) for name, layer in targets.items()}
    # Where no layer wants statistics the data is not iterated: a generator stays full.
    wanted = {name: calibrator for name, calibrator in statistics.items() if calibrator is not None}
    if wanted:
        calibrate(model, {name: targets[name] for name in wanted}, wanted, data)
    return statistics


def variant_of(config: AdapterConfig) -> type[Variant]:
    """The registered variant that `config` belongs to."""
    # By exact type: a file names the variant, and load would give a subclass back as the registered class.
    name = getattr(config, "variant", None)
    if (
        not isinstance(config, AdapterConfig)
        or name not in VARIANTS
        or VARIANTS[name].config_class is not type(config)
    ):
        known = ", ".join(sorted(variant.config_class.__name__ for variant in VARIANTS.values()))
        raise ConfigError(
            f"{type(config).__name__} is not the config of a registered variant, wanted one of {known}."
        )
    return VARIANTS[name]


def refuse_overlap(targets: Mapping[str, nn.Module]) -> None:
    """Raise TargetError where a layer carries an adapter already."""
    taken = [name for name, layer in targets.items() if CHILD in layer._modules]
    if taken:
        raise TargetError(
            f"{', '.join(taken[:5])}: {len(taken)} of {len(targets)} target layers already carry an adapter. "
            "Detach it first, or leave these layers out with exclude_names."
        )


def install(model: nn.Module, adapters: list[tuple[AdapterConfig, dict[str, Variant]]]) -> list[Adapter]:
    """Hang finished adapter modules on their layers and freeze the base: all of it, or nothing, whatever
    interrupts it.
    """
    refuse_strays(model)
    state: _State = getattr(model, STATE, None) or _State()
    handles = [Adapter(model, config, tuple(modules)) for config, modules in adapters]
    base = dict(base_parameters(model))
    frozen = {name for name, parameter in base.items() if parameter.requires_grad}
    if "torch._dynamo" in sys.modules:
        # Code that torch.compile made earlier does not look for new hooks (skip_nnmodule_hook_guards): it
        # would run on without.
        torch.compiler.reset()
    steps: list[Step] = []
    back = [attribute_as_it_is(model, STATE)]
    for _, modules in adapters:
        for name, module in modules.items():
            layer = model.get_submodule(name)
            back += layer_as_it_is(layer)
            steps += _hang(layer, module)
    steps += [(base[name].requires_grad_, False) for name in frozen]
    back += [(base[name].requires_grad_, True) for name in frozen]
    # Another state and not a changed one: the model says that it carries them when it does.
    state = _State([*state.adapters, *handles], state.frozen | frozen)
    at_once([*steps, (vars(model).__setitem__, STATE, state)], back)
    return handles


def _hang(layer: nn.Module, module: Variant) -> list[Step]:
    """What puts the module on its layer: child and hook, as add_module and register_forward_hook do it."""
    if hasattr(layer, CHILD):
        raise TargetError(
            f"{type(layer).__name__}: its attribute {CHILD!r} is taken by a {type(layer.lora_lite).__name__}."
            " Rename it, or leave the layer out with exclude_names."
        )
    # A new module is in training mode; the model need not be.
    module.train(layer.training)
    # Appended: hooks that the layer already has run first, and the adapter gets what they make of x or y.
    hook: Callable[..., Any]
    if type(module).adapt_input is not Variant.adapt_input:
        hook, hooks, with_kwargs = (
            _adapt_input,
            layer._forward_pre_hooks,
            layer._forward_pre_hooks_with_kwargs,
        )
    else:
        hook, hooks, with_kwargs = _adapt_output, layer._forward_hooks, layer._forward_hooks_with_kwargs
    # torch copies a handle along with the hooks that it is of: a deep copy of the model is detached by
    # itself.
    handle = RemovableHandle(hooks, extra_dict=with_kwargs)
    module.__dict__["hook"] = handle
    return [
        (setitem, layer._modules, CHILD, module),
        (setitem, hooks, handle.id, hook),
        (setitem, with_kwargs, handle.id, True),
    ]


def take_down(layer: nn.Module) -> list[Step]:
    """What takes its adapter off a layer; nothing where it has none."""
    module = layer._modules.get(CHILD)
    if module is None or (hook := getattr(module, "hook", None)) is None:
        return [(layer._modules.pop, CHILD, None)]
    gone = [(getattr(layer, hooks).pop, hook.id, None) for hooks in HOOKS]
    return [(layer._modules.pop, CHILD, None), *gone]


# The hooks find their adapter through the layer that calls them, so that a deep copy of a model uses its own.
def _adapt_input(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    x = first_argument(layer, args, kwargs)
    adapter: Variant = layer.lora_lite
    # Past nn.Module.__setattr__, which would take 2 µs of each forward (measured).
    adapter.__dict__["reached"] = True
    adapted = _without_autocast(x, adapter.adapt_input, x).to(x.dtype)
    if args:
        return (adapted, *args[1:]), kwargs
    return args, {name: adapted if value is x else value for name, value in kwargs.items()}


def _adapt_output(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], y: Tensor) -> Tensor:
    x = first_argument(layer, args, kwargs)
    adapter: Variant = layer.lora_lite
    adapter.__dict__["reached"] = True
    adapted = _without_autocast(x, adapter.adapt_output, x, y, layer)
    return adapted.to(y.dtype)


def _without_autocast(x: Tensor, adapt: Callable[..., Tensor], *given: Any) -> Tensor:
    """adapt(*given) in the dtypes that it chooses itself."""
    # torch has no autocast for the meta device, and raises when it is asked.
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):
        return adapt(*given)
    with torch.autocast(x.device.type, enabled=False):
        return adapt(*given)


def detach(model: nn.Module) -> None:
    """Take every adapter off `model` and give the base its requires_grad flags back. What they
    learnt is gone: save first.

    Raises NotAttachedError if none is on, TargetError for what is no model (a handle has a detach() of its
    own).
    """
    model = unwrapped(model)
    _uninstall(model, list(attached(model)))


def _uninstall(model: nn.Module, adapters: list[Adapter]) -> None:
    at_once(*uninstalling(model, adapters))


def uninstalling(model: nn.Module, adapters: Iterable[Adapter]) -> tuple[list[Step], list[Step]]:
    """What takes these adapters off the model, and what puts them back on."""
    state: _State = getattr(model, STATE)
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
    return [*steps, (vars(model).pop, STATE, None)], back


def adapters_of(model: nn.Module) -> tuple[Adapter, ...]:
    """The handles of the adapters on `model`, oldest first; empty where there are none."""
    state: _State | None = getattr(model, STATE, None)
    return tuple(state.adapters) if state else ()


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


def attachable(model: nn.Module) -> nn.Module:
    """unwrapped(model), where it is not split over processes already and has all its parameters.

    Raises TargetError.
    """
    inner = unwrapped(model)
    # The model as it was given: a DistributedDataParallel around it counts as split.
    refuse_split(model)
    for name, parameter in inner.named_parameters():
        if is_lazy(parameter):
            raise TargetError(
                f"{name}: found no shape yet, wanted a parameter with one. Run one forward of the model"
                " first."
            )
    return inner


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


def attached(model: nn.Module) -> tuple[Adapter, ...]:
    """adapters_of(model), where there must be one and no other. Raises NotAttachedError, TargetError."""
    refuse_strays(model)
    if not (adapters := adapters_of(model)):
        raise NotAttachedError(
            f"This {type(model).__name__} carries no adapter. Call attach or load first, on this very module."
        )
    return adapters


def base_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The model's own parameters by name, adapters aside."""
    adapters = {name: module for name, module in model.named_modules() if isinstance(module, Variant)}
    own = {
        f"{name}.{parameter}"
        for name, module in adapters.items()
        for parameter, _ in module.named_parameters()
    }
    for name, parameter in model.named_parameters():
        if name not in own:
            yield name, parameter


def device_of(layer: nn.Module) -> torch.device | None:
    """Where the layer's tensors lie."""
    return next((tensor.device for tensor in chain(layer.parameters(), layer.buffers())), None)


def _refuse_non_finite(module: Variant) -> None:
    bad = [
        name for name in module.specs(module.shape, module.config) if not all_finite(getattr(module, name))
    ]
    # reset puts NaN where nothing fills: a tensor that is all NaN was forgotten, any other overflowed.
    for name in bad:
        if getattr(module, name).isnan().all():
            raise ConfigError(
                f"{module.name}: nothing fills {name}. Give its ParamSpec an init, or fill it in initialise."
            )
    if bad:
        raise ConfigError(
            f"{module.name}: its initial values overflow {module.config.dtype}, or the squares that they come"
            " from float32. Choose a wider adapter dtype, or leave the layer out with exclude_names."
        )


def refuse_non_finite_base(layer: nn.Module, *, read: bool) -> None:
    """Raise BaseWeightError where the layer's weight or bias holds NaN or Inf.

    read: look into a quantised weight too.
    """
    for what, tensor in _base_numbers(layer, read):
        if not all_finite(tensor):
            count = int((~torch.isfinite(tensor)).sum())
            raise BaseWeightError(
                f"the base {what} holds {count} NaN or Inf, wanted finite numbers. Mend the base first."
            )


def _base_numbers(layer: nn.Module, read: bool) -> Iterator[tuple[str, Tensor]]:
    """What the layer computes with, as floating-point numbers."""
    # A quantised weight is dequantised only for a variant that reads it.
    if read or has_plain_weight(layer):
        yield "weight", read_weight(layer)
    if isinstance(bias := getattr(layer, "bias", None), Tensor) and bias.dtype.is_floating_point:
        yield "bias", bias.detach()
