"""The rank of variants whose factors are singular or principal directions: a layer has no more than its
smaller width.
"""

from dataclasses import replace
from typing import Any

from lora_lite.config import AdapterConfig
from lora_lite.errors import ConfigError
from lora_lite.linear import LinearShape


def limited_rank(shape: LinearShape, config: Any, step: int = 1) -> Any:
    """The config with r, a multiple of `step`, no larger than the layer, and the same alpha / r; as it is
    where the layer is smaller than `step`.
    """
    largest = min(shape.d_in, shape.d_out) // step * step
    if config.r is None or config.r <= largest or largest == 0:
        return config
    alpha = {} if config.alpha is None else {"alpha": config.alpha * largest / config.r}
    return replace(config, r=largest, **alpha)


def checked_rank(shape: LinearShape, config: AdapterConfig) -> None:
    """Raise ConfigError where r is larger than the layer."""
    largest = min(shape.d_in, shape.d_out)
    if config.r is not None and config.r > largest:
        raise ConfigError(
            f"{config.variant}: r = {config.r} on a layer {shape.d_in} → {shape.d_out}, wanted r ≤ {largest}."
            " Lower r, or leave the layer out with exclude_names."
        )
