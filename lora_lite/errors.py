"""What lora_lite raises. Every message names the layer, what was found, what was wanted and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager


class LoraLiteError(Exception):
    """Base class of every error that lora_lite raises on purpose."""


class ConfigError(LoraLiteError):
    """A config, or a config on a layer of this shape, that cannot work."""


class TargetError(LoraLiteError):
    """No such layer, a layer that cannot carry an adapter, or one that already carries another."""


class BaseWeightError(LoraLiteError):
    """A base weight that cannot be read (or, for merge, written) as floating-point numbers."""


class CalibrationError(LoraLiteError):
    """Calibration data that is missing, too little, or never reaches a target."""


class CheckpointError(LoraLiteError):
    """A file that is not a whole, well-formed lora_lite checkpoint for this model."""


class BaseMismatchError(CheckpointError):
    """A whole checkpoint, made for other base weights."""


class NotAttachedError(LoraLiteError):
    """An operation on an adapter that is not, or no longer, attached."""


@contextmanager
def naming(name: str) -> Iterator[None]:
    """LoraLiteErrors raised inside carry the layer's full name."""
    try:
        yield
    except LoraLiteError as error:
        error.args = (f"{name}: {error}",)
        raise
