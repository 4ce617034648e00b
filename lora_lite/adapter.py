"""attach, detach and disabled."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lora_lite.atomic import Step, at_once, attribute_as_it_is, gradients_as_before, layer_as_it_is
from lora_lite.base import (
    attachable,
    device_of,
    looked_at,
    refuse_absent,
    refuse_another_forward,
)
from lora_lite.calibration import calibrate
from lora_lite.config import AdapterConfig
from lora_lite.disabling import Disabled
from lora_lite.errors import CalibrationError, ConfigError, TargetError, naming
from lora_lite.fast_paths import switch_off
from lora_lite.fitting import carrying
from lora_lite.handle import Adapter, State, attached, refuse_strays, uninstall, unwrapped
from lora_lite.hooks import hang, listen
from lora_lite.linear import all_finite, linear_shape
from lora_lite.names import CHILD, STATE, base_parameters, plain_modules, watched
from lora_lite.progress import told
from lora_lite.sketches import Look, sketch_for
from lora_lite.spec import VARIANTS, Variant
from lora_lite.statistics import keep_still
from lora_lite.targets import find_targets


@gradients_as_before
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
    # Every layer, before the first batch runs and the first SVD is taken.
    looks = _looked_at_all(targets, variant)
    targets = carrying(variant, config, targets)
    statistics = _statistics(model, variant, config, targets, calibration_data)
    configs = variant.allocate(config, statistics)
    # Built beside the model: what fails before install leaves nothing to undo.
    modules = {}
    for name, layer_config in told(configs.items(), f"{variant.name}: layers"):
        layer = targets[name]
        with naming(name):
            # What produces calibration data may write to the base.
            seen = looks[name] if looks[name].holds(layer) else looked_at(layer, variant)
            shape = linear_shape(layer)
            modules[name] = variant(shape, variant.fit(shape, layer_config), device=device_of(layer))
            modules[name].reset(layer, statistics[name], seen.norms)
            vars(modules[name])["sketch"] = seen.sketch
            _refuse_non_finite(modules[name])
    return install(model, [(config, modules)])[0]


def _looked_at_all(targets: Mapping[str, nn.Module], variant: type[Variant]) -> dict[str, Look]:
    """What attach wants to know of each layer's numbers, of one look at them. Raises where one cannot carry
    an adapter.
    """
    looks = {}
    for name, layer in targets.items():
        with naming(name):
            refuse_absent(layer)
            refuse_another_forward(layer, replaced=variant.replaces)
            looks[name] = looked_at(layer, variant)
    return looks


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
            + (f" For the defaults write {config.__name__}()." if isinstance(config, type) else "")
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
    state: State = getattr(model, STATE, None) or State()
    named = dict(plain_modules(model))
    handles = [
        Adapter(model, config, tuple(modules), [named[name] for name in modules])
        for config, modules in adapters
    ]
    base = dict(base_parameters(model))
    frozen = {name for name, parameter in base.items() if parameter.requires_grad}
    _forget_compiled()
    steps: list[Step] = []
    back = [attribute_as_it_is(model, STATE)]
    hung = [(name, named[name], module) for _, modules in adapters for name, module in modules.items()]
    for name, layer, module in hung:
        module.__dict__["target"] = name
        if "sketch" not in vars(module):
            vars(module)["sketch"] = sketch_for(layer, module)
        back += layer_as_it_is(layer)
        steps += hang(layer, module)
    steps += [(base[name].requires_grad_, False) for name in frozen]
    back += [(base[name].requires_grad_, True) for name in frozen]
    done, undone = _quiet(model, base)
    listener = state.listener
    if listener is None:
        listener, heard = listen(model)
        undone += layer_as_it_is(model)
        done += heard
    # Another state and not a changed one: the model says that it carries them when it does.
    state = replace(
        _with(state, handles, hung),
        frozen=state.frozen | frozen,
        listener=listener,
        buffers=watched(model),
    )
    at_once([*steps, *done, (vars(model).__setitem__, STATE, state)], [*back, *undone])
    return handles


def _with(state: State, handles: Sequence[Adapter], hung: Sequence[tuple[str, nn.Module, Variant]]) -> State:
    """A state with these adapters, whose listener speaks to them too, and about no forward so far."""
    return State(
        adapters=[*state.adapters, *handles],
        marks=[*state.marks, *(vars(module)["mark"] for _, _, module in hung)],
        started_from=[
            *state.started_from,
            *(layer for _, layer, module in hung if vars(module)["sketch"] is not None),
        ],
    )


def _forget_compiled() -> None:
    if "torch._dynamo" in sys.modules:
        # Code that torch.compile made earlier does not look for new hooks (skip_nnmodule_hook_guards): it
        # would run on without.
        torch.compiler.reset()


def _quiet(model: nn.Module, base: Mapping[str, nn.Parameter]) -> tuple[list[Step], list[Step]]:
    """What keeps the base still besides requires_grad, and has every layer called; and what undoes it."""
    # An optimiser that is given all parameters leaves alone those without a gradient.
    stale = [parameter for parameter in base.values() if parameter.grad is not None]
    steps: list[Step] = [(setattr, parameter, "grad", None) for parameter in stale]
    back: list[Step] = [(setattr, parameter, "grad", parameter.grad) for parameter in stale]
    for change in (keep_still, switch_off):
        done, undone = change(model)
        steps += done
        back += undone
    return steps, back


def _refuse_non_finite(module: Variant) -> None:
    tensors = module._parameters | module._buffers
    bad = [name for name, tensor in tensors.items() if tensor is not None and not all_finite(tensor)]
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


@gradients_as_before
def detach(model: nn.Module) -> None:
    """Take every adapter off `model` and give the base its requires_grad flags back. What they
    learnt is gone: save first.

    Raises NotAttachedError if none is on, TargetError for what is no model (a handle has a detach() of its
    own).
    """
    model = unwrapped(model)
    uninstall(model, list(attached(model)))


def disabled(model: nn.Module) -> Disabled:
    """`with ll.disabled(model):` every adapter on the model has no effect: its outputs and gradients are
    those of the base, bit for bit, as it computes while adapters are on (norms with running statistics stay
    still, nn.TransformerEncoderLayer takes no fused path). adapter.disabled() does the same for one of
    several.

    Contexts nest, each for its own adapters; they end with an exception too, and where the adapter was
    detached meanwhile. A deep copy that is made inside is disabled as long as the original; one that is
    pickled is not. What is attached or loaded inside acts. save and export_peft write the adapters as ever,
    merge refuses. dead() tells which layers were called, disabled or not. Compiled models compile once more.
    Whoever checkpoints activations calls backward inside too: it runs the layers again.

    Raises NotAttachedError, on entering, where the model carries no adapter; TargetError as the handle does.
    """
    plain = unwrapped(model)
    return Disabled(lambda: (module for adapter in attached(plain) for module in adapter.layers().values()))
