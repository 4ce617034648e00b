"""Settings that some layers of a model are too small for."""

from collections.abc import Mapping

from torch import nn

from lora_lite.config import AdapterConfig
from lora_lite.errors import ConfigError, naming
from lora_lite.linear import linear_shape
from lora_lite.spec import Variant
from lora_lite.warned import warn


def carrying(
    variant: type[Variant], config: AdapterConfig, targets: Mapping[str, nn.Module]
) -> dict[str, nn.Module]:
    """The targets that can carry the adapter, as the variant's fit() would have it.

    A rank above what some layers can have is lowered there, and a layer that was not named and cannot carry
    it at all is left out: both with a warning. Raises ConfigError where the rank is too large for all of
    them, and where a layer that was named cannot carry it.
    """
    carry, lowered, left_out = dict[str, nn.Module](), list[str](), dict[str, ConfigError]()
    for name, layer in targets.items():
        shape = linear_shape(layer)
        fitted = variant.fit(shape, config)
        try:
            with naming(name):
                variant.check(shape, fitted)
        except ConfigError as error:
            left_out[name] = error
            continue
        carry[name] = layer
        if fitted.r != config.r:
            lowered.append(f"{name} ({shape.d_in} → {shape.d_out}) r = {fitted.r}")
    if left_out and (config.target_names or not carry):
        raise next(iter(left_out.values()))
    if len(lowered) == len(carry):
        for name, layer in carry.items():
            with naming(name):
                variant.check(linear_shape(layer), config)
    _warn(variant, config, lowered, list(left_out.values()))
    return carry


def _warn(
    variant: type[Variant], config: AdapterConfig, lowered: list[str], left_out: list[ConfigError]
) -> None:
    if lowered:
        warn(
            f"{variant.name}: r = {config.r} is more than some layers can have. Of {len(lowered)} the rank is"
            f" lowered, at the same scale: {', '.join(lowered[:5])}{', …' if lowered[5:] else ''}. Leave them"
            " out with exclude_names, or lower r for all.",
        )
    if left_out:
        warn(
            f"{len(left_out)} layers are left out, that {variant.name} cannot be on:"
            f" {'; '.join(str(error) for error in left_out[:3])}",
        )
