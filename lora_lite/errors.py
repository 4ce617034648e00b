"""What lora_lite raises. Every message names the layer, what was found, what was wanted and what to do."""


class LoraLiteError(Exception):
    """Base class of every error that lora_lite raises on purpose."""


class ConfigError(LoraLiteError):
    """A config, or a config on a layer of this shape, that cannot work; or a variant that register refuses.

    Raised by every config, attach, load (its dtype argument), save (an adapter cast to a dtype that load
    would refuse), ParamSpec and register.
    """


class TargetError(LoraLiteError):
    """No such layer, a layer that cannot carry an adapter, or one that already carries another; or a model
    that is split over processes already, or no model at all.

    Raised by attach, load, save, merge and detach.
    """


class BaseWeightError(LoraLiteError):
    """A base weight that cannot be read (or, for merge, written) as floating-point numbers, or that holds NaN
    or Inf.

    Raised by attach, load, save and merge.
    """


class CalibrationError(LoraLiteError):
    """Calibration data that is missing, too little, unfit for the model, or never reaches a target. Raised by
    attach.
    """


class CheckpointError(LoraLiteError):
    """A file that is not a whole, well-formed lora_lite checkpoint for this model (load), or an adapter that
    would make none: NaN, Inf, two dtypes (save).
    """


class BaseMismatchError(CheckpointError):
    """A whole checkpoint, made for other base weights. Raised by load, unless check_base=False."""


class NotAttachedError(LoraLiteError):
    """An operation on an adapter that is not, or no longer, attached. Raised by save, merge, detach and by
    handles.
    """


class naming:  # noqa: N801  # a context manager, used as a function is
    """Inside, the message of a LoraLiteError gets `name` in front: the layer's full name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LoraLiteError):
            # The same error with another text: its type and its traceback stay.
            error.args = (f"{self.name}: {error}",)
