"""import_peft: a peft folder onto a model."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lora_lite.adapter import install, refuse_overlap
from lora_lite.atomic import gradients_as_before
from lora_lite.base import (
    attachable,
    device_of,
    refuse_absent,
    refuse_another_forward,
    refuse_non_finite_base,
)
from lora_lite.config import AdapterConfig, refuse_dtype
from lora_lite.errors import CheckpointError, ConfigError, naming
from lora_lite.fingerprint import check_same_base
from lora_lite.handle import Adapter
from lora_lite.linear import all_finite, is_linear, linear_shape
from lora_lite.names import plain_modules
from lora_lite.peft_format.folder import PREFIX, TENSORS, opened_folder, refuse_another
from lora_lite.peft_format.method import Method
from lora_lite.peft_format.methods import method_of
from lora_lite.peft_format.patterns import Selection, ends, only
from lora_lite.peft_format.saved_modules import SavedModules, ours, shapes_of
from lora_lite.peft_format.settings import Settings, read_settings
from lora_lite.reading import Tensors
from lora_lite.spec import VARIANTS, Variant
from lora_lite.targets import refuse_uncalled
from lora_lite.variants import FullConfig
from lora_lite.writing import plain_path, shown


@gradients_as_before
def import_peft(
    model: nn.Module,
    folder: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    dtype: torch.dtype | None = None,
    check_base: bool = True,
) -> list[Adapter]:
    """Attach the adapter of a folder that peft's save_pretrained or ll.export_peft wrote, with the same
    outputs.

    Everything is read and checked before the model is touched: on any error it is as before. Each tensor of
    the file is used, and each layer that the config names has its tensors, or it is refused by name. The
    names are those of the plain model, "base_model.model." taken off. No pickle is opened.

    dtype       the adapter's dtype; None: float32, as peft computes, or float64 where the file has that
    check_base  False takes any base whose layers have the right names and shapes; True asks for the very base
                where the folder tells it: those that ll.export_peft wrote do, peft's own do not

    Returns the handles: one, or two for an IA3 with gates on outputs and on inputs; and one more for
    modules_to_save, which are full layers.

    Raises CheckpointError (a method, a setting or a tensor that is none of ours, a layer that the model
    lacks, NaN or Inf), BaseMismatchError, TargetError, ConfigError, BaseWeightError as load does, and OSError
    where the folder cannot be read.
    """
    refuse_dtype(dtype, "import_peft")
    place = plain_path(folder)
    model = attachable(model)
    kind = method_of(settings := read_settings(place))
    with opened_folder(place) as (export, tensors):
        method = kind(settings, len(tensors))
        path = shown(os.path.join(place, TENSORS))
        layers, whole = _layers(model, method, tensors, path)
        if export is not None and check_base:
            check_same_base(path, model, {**export, "adapters": [{"targets": layers}]}, list(whole))
        adapters = _rebuilt(layers, whole, method, tensors, dtype, path)
    refuse_another(path, export, settings, tensors.digests)
    for name, layer in (layers | whole).items():
        with naming(name):
            refuse_non_finite_base(layer, read=False)
    return install(model, adapters)


def _layers(
    model: nn.Module, method: Method, tensors: Tensors, path: str
) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """The layers that the file has adapters for, in the order of the model: those that the config names; and
    those that it has whole.
    """
    modules = dict(plain_modules(model))
    whole = SavedModules(method.settings, len(modules)).layers(modules)
    theirs = {f"{PREFIX}{name}.{suffix}" for name, layer in whole.items() for suffix in shapes_of(layer)}
    names = _named_by(tensors - theirs, method, path)
    for name in sorted(names):
        module = modules.get(name)
        if module is None or not is_linear(module):
            found = "no such layer" if module is None else f"a {type(module).__name__}"
            raise CheckpointError(f"{path}: {name}: found {found} in this model, wanted a linear layer.")
        with naming(name):
            refuse_absent(module)
    _refuse_second_names(modules, names | whole.keys(), path)
    _refuse_disagreement(model, modules, names, method.settings)
    layers = {name: module for name, module in modules.items() if name in names}
    refuse_overlap(layers | whole)
    refuse_uncalled(model, layers | whole)
    for name, layer in (layers | whole).items():
        with naming(name):
            refuse_another_forward(layer, replaced=name in whole)
    return layers, whole


def _named_by(tensors: Iterable[str], method: Method, path: str) -> set[str]:
    """The layers of all the tensors. Raises CheckpointError where one is no layer's."""
    names = set()
    for key in sorted(tensors):
        suffix = next((suffix for suffix in method.suffixes if key.endswith(f".{suffix}")), None)
        if suffix is None or not key.startswith(PREFIX):
            wanted = ", ".join(f"{PREFIX}<layer>.{suffix}" for suffix in method.suffixes)
            raise CheckpointError(
                f"{path}: found a tensor {key!r}, wanted none but {wanted}, for this"
                f" {method.settings['peft_type']} config. Nothing of a file is left out."
            )
        names.add(key.removeprefix(PREFIX).removesuffix(f".{suffix}"))
    if not names:
        raise CheckpointError(f"{path}: found no tensor, wanted those of an adapter.")
    return names


def _refuse_second_names(modules: Mapping[str, nn.Module], names: set[str], path: str) -> None:
    """peft puts its layer in the place of the first name alone, and what calls the others goes around it."""
    taken = {modules[name]: name for name in names}
    for name, module in modules.items():
        if module in taken and name != (own := taken[module]):
            raise CheckpointError(
                f"{path}: {own}: found the same layer at {name} too, wanted a layer of one name: peft adapts"
                " it where it is called by that name alone."
            )


def _refuse_disagreement(
    model: nn.Module, modules: Mapping[str, nn.Module], names: set[str], settings: Settings
) -> None:
    """Raise CheckpointError where the config names other layers than the file has tensors for."""
    named, saved = Selection(settings, settings.path), SavedModules(settings, len(modules))
    if named.all_linear:
        wanted = {name for name, module in modules.items() if is_linear(module)} & names
    else:
        wanted = {name for name in modules if name and named(name) and name not in saved}
    if missing := sorted(wanted - names):
        raise CheckpointError(
            f"{settings.path}: it names {', '.join(missing[:5])}, {len(missing)} layers of this model for"
            f" which {TENSORS} has no tensors, wanted tensors for each."
        )
    if unnamed := sorted(names - wanted):
        raise CheckpointError(
            f"{settings.path}: {TENSORS} has tensors for {', '.join(unnamed[:5])}, {len(unnamed)} layers that"
            " the config does not name: peft would leave them out. Name them in target_modules."
        )
    reached = {end for name in modules for end in ends(name)}
    if absent := [entry for entry in named.entries if entry not in reached]:
        raise CheckpointError(
            f"{settings.path}: target_modules names {', '.join(absent[:5])}, which this model lacks."
        )


def _rebuilt(
    layers: Mapping[str, nn.Module],
    whole: Mapping[str, nn.Module],
    method: Method,
    tensors: Tensors,
    dtype: torch.dtype | None,
    path: str,
) -> list[tuple[AdapterConfig, dict[str, Variant]]]:
    """The adapters' modules, with every tensor of the file."""
    wanted = {name: method.shapes(name, linear_shape(layer)) for name, layer in layers.items()}
    wanted |= {name: shapes_of(layer) for name, layer in whole.items()}
    read = {name: _read(name, shapes, tensors, path) for name, shapes in wanted.items()}
    if dtype is None:
        dtype = torch.float32
        for held in read.values():
            for tensor in held.values():
                dtype = torch.promote_types(dtype, tensor.dtype)
    adapters: dict[str, tuple[AdapterConfig, dict[str, Variant]]] = {}
    configs = _configs(layers, method, dtype, path)
    if whole:
        configs |= dict.fromkeys(whole, FullConfig(dtype=dtype, target_names=(only(whole),)))
    for name, layer in (*layers.items(), *whole.items()):
        config, shape = configs[name], linear_shape(layer)
        with naming(name):
            own = ours(read[name], layer) if name in whole else method.ours(read[name], layer, config)
        device = device_of(layer)
        given = {tensor: t.to(device, config.dtype).contiguous() for tensor, t in own.items()}
        _refuse_non_finite(name, given, path)
        with _blaming(path, name):
            common = config if name in whole else method.whole(config)
        fresh: tuple[AdapterConfig, dict[str, Variant]] = (common, {})
        _, modules = adapters.setdefault(config.variant, fresh)
        modules[name] = VARIANTS[config.variant](shape, config, tensors=given)
    return list(adapters.values())


def _configs(
    layers: Mapping[str, nn.Module], method: Method, dtype: torch.dtype, path: str
) -> dict[str, AdapterConfig]:
    """Of each layer. Raises CheckpointError where a setting of the file cannot work on it."""
    targets = (only(layers),)
    configs = {}
    for name, layer in layers.items():
        with _blaming(path, name):
            own = method.config(name, dtype=dtype, target_names=targets)
            VARIANTS[own.variant].check(linear_shape(layer), own)
        configs[name] = own
    return configs


@contextmanager
def _blaming(path: str, name: str) -> Iterator[None]:
    """A config that cannot be is the folder's."""
    try:
        yield
    except ConfigError as error:
        raise CheckpointError(f"{path}: {name}: {error}") from error


def _read(name: str, shapes: Mapping[str, tuple[int, ...]], tensors: Tensors, path: str) -> dict[str, Tensor]:
    """One layer's tensors by suffix, as the file has them."""
    read = {}
    for suffix, shape in shapes.items():
        key = f"{PREFIX}{name}.{suffix}"
        entry = tensors.look(key)
        if entry is None:
            raise CheckpointError(f"{path}: {name}: its tensor {suffix} is missing, wanted shape {shape}.")
        if entry.shape != shape:
            raise CheckpointError(
                f"{path}: {name}: its tensor {suffix} has shape {entry.shape}, wanted {shape} for what the"
                " config says of this layer."
            )
        if entry.dtype is None:
            raise CheckpointError(
                f"{path}: {name}: its tensor {suffix} is {entry.kind}, wanted floating point."
            )
        read[suffix] = tensors.read(key, entry)
    return read


def _refuse_non_finite(name: str, tensors: Mapping[str, Tensor], path: str) -> None:
    for own, tensor in tensors.items():
        if not all_finite(tensor):
            raise CheckpointError(
                f"{path}: {name}: its {own} holds NaN or Inf in {tensor.dtype}, wanted finite numbers: the"
                " training diverged, or the dtype is too narrow for it."
            )
