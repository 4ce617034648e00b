"""Adapter modules out of a file's header and tensors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from reprlib import repr as short
from typing import Any

import torch
from torch import Tensor, nn

from lora_lite.adapter import refuse_overlap
from lora_lite.base import device_of, refuse_absent, refuse_another_forward
from lora_lite.config import AdapterConfig
from lora_lite.errors import CheckpointError, ConfigError, naming
from lora_lite.linear import LinearShape, is_linear, linear_shape
from lora_lite.names import plain_modules
from lora_lite.reading import Tensors
from lora_lite.spec import VARIANTS, Variant
from lora_lite.targets import refuse_uncalled


def rebuild(
    path: str, model: nn.Module, entry: dict[str, Any], tensors: Tensors, dtype: torch.dtype | None
) -> tuple[AdapterConfig, dict[str, Variant]]:
    """The adapter's modules with their saved tensors, taken out of `tensors`.

    Touches nothing of the model.
    """
    if entry["variant"] not in VARIANTS:
        raise CheckpointError(
            f"{path}: unknown variant {entry['variant']!r}, this lora_lite knows {sorted(VARIANTS)}."
        )
    variant = VARIANTS[entry["variant"]]
    layers, named = {}, dict(plain_modules(model))
    for target in entry["targets"]:
        layers[target] = _layer(path, named, target)
        with naming(target):
            refuse_absent(layers[target])
            refuse_another_forward(layers[target], replaced=variant.replaces)
    refuse_overlap(layers)
    refuse_uncalled(model, layers)
    modules = {}
    with _blaming_the_header(path):
        config = variant.config_class.from_json(entry["config"])
    if dtype is not None:
        config = replace(
            config, dtype=dtype
        )  # a ConfigError of its own: it is the argument that does not fit
    with _blaming_the_header(path):
        for target, own in entry["targets"].items():
            shape, device = linear_shape(layers[target]), device_of(layers[target])
            # Most layers have the config's own r and alpha, checked already. By repr: 1 == True == 1.0.
            same = repr(own) == repr({"r": config.r, "alpha": config.alpha})
            layer_config = config if same else replace(config, **own)
            variant.check(shape, layer_config)
            saved = _take(path, target, variant, shape, layer_config, tensors, cast=dtype is not None)
            given = {name: tensor.to(device=device, dtype=dtype) for name, tensor in saved.items()}
            modules[target] = variant(shape, layer_config, tensors=given)
    return config, modules


@contextmanager
def _blaming_the_header(path: str) -> Iterator[None]:
    """A config that cannot be is a damaged header."""
    try:
        yield
    except ConfigError as error:
        raise CheckpointError(f"{path}: damaged header: {error}") from error


def _layer(path: str, named: Mapping[str, nn.Module], name: str) -> nn.Module:
    layer = named.get(name)
    if layer is None or not is_linear(layer):
        found = "no such layer" if layer is None else f"a {type(layer).__name__}"
        raise CheckpointError(f"{path}: {name}: found {found} in this model, wanted a linear layer.")
    return layer


def _take(
    path: str,
    target: str,
    variant: type[Variant],
    shape: LinearShape,
    config: AdapterConfig,
    tensors: Tensors,
    *,
    cast: bool,
) -> dict[str, Tensor]:
    """One layer's tensors, out of `tensors`, each as its spec wants it; cast: in any adapter dtype."""
    taken = {}
    for name, spec in variant.specs(shape, config).items():
        saved = tensors.look(f"{target}.{name}")
        if saved is None:
            raise CheckpointError(f"{path}: {target}: tensor {name} is missing, wanted shape {spec.shape}.")
        if saved.shape != spec.shape:
            raise CheckpointError(
                f"{path}: {target}: tensor {name} has shape {short(saved.shape)}, wanted {spec.shape} for a "
                f"{variant.name} adapter on a layer {shape.d_in} → {shape.d_out}."
            )
        if saved.dtype is None or (not cast and saved.dtype != config.dtype):
            raise CheckpointError(
                f"{path}: {target}: tensor {name} is {saved.dtype or short(saved.kind)}, wanted floating"
                f" point, {config.dtype}."
            )
        taken[name] = tensors.read(f"{target}.{name}", saved)
    return taken
