"""AdapterConfig: what every variant's config has in common. Frozen, validated when built, to and from plain
JSON.
"""

import dataclasses
import re
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, Self, cast, get_args, get_origin, get_type_hints

import torch

from lora_lite.errors import ConfigError

Role = Literal["reader", "writer", "inner"]

# Far above any layer's width. A larger rank would fail deep inside of torch, and not as a ConfigError.
LARGEST_RANK = 2**20
# What re.compile may raise; a warning where the user made them errors.
NO_PATTERN = (re.error, OverflowError, RecursionError, Warning)
PATTERNS = ("target_names", "exclude_names")
# Of a file's patterns, characters in all, that are tried as regular expressions: compiling may take
# milliseconds for each.
TRIED = 200
# By the names that a file holds.
ADAPTER_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def option(default: Any, *, values: tuple[Any, ...], wrong: tuple[Any, ...] = ()) -> Any:
    """A variant's own config field, with what a test should try on it.

        rho: float = option(1.0, values=(1.0, 2.0), wrong=(None, 0, math.nan))

    values: valid settings, simplest first. wrong: settings that the config must refuse by the field's name,
    whatever the other fields hold: beyond its range, NaN, of another type. The property suite wants both of
    every field. They stand in the field's metadata; the config itself checks nothing by them.

    A file that was written before the field existed loads with the default: let it mean what the variant did
    until then.
    """
    return dataclasses.field(default=default, metadata={"values": values, "wrong": wrong})


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """The settings that all variants have, by keyword. A variant's config adds its own, and sets `variant`,
    the variant's name, and `unused`: which of r and alpha it does not have.

    r = 8                   rank, a whole number from 1 to 2²⁰, of which variants may ask more. None for a
                            variant that has no rank, which refuses any other value
    alpha = 16.0            the update is scaled by s = alpha / r: above 0, s within the range of dtype. None
                            for a variant without that scale, which refuses any other value
    dtype = torch.float32   of the adapter's tensors and computation (norms and small solves may be wider); or
                            torch.bfloat16, float16, float64. The base layer's own computation is never recast
    target_names = ()       regular expressions; each must match a whole layer name, or a whole end of one
                            after a dot ("q_proj" matches "layers.0.q_proj", never "my_q_proj"). Empty: every
                            linear layer but the output head
    exclude_names = ()      regular expressions of layers to leave out, matched the same way
    target_roles = ()       "reader" (as wide at its input as the residual stream), "writer" (at its output),
                            "inner" (neither). Empty: any role
    layers = None           indices of the model's layers, 0 or more, at least one. None: all

    Frozen; dataclasses.replace makes another. A list counts as a tuple, a bare string as a tuple of one.
    Raises ConfigError, with the field's name, where a value cannot work, whatever the layer; attach raises
    it, or TargetError, where it cannot work on this model.
    """

    variant: ClassVar[str]
    unused: ClassVar[tuple[str, ...]] = ()

    r: int = 8
    alpha: float = 16.0
    dtype: torch.dtype = torch.float32
    target_names: tuple[str, ...] = ()
    exclude_names: tuple[str, ...] = ()
    target_roles: tuple[Role, ...] = ()
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        # First: the checks below iterate, and would take a bare string apart.
        self._normalise()
        for name in ("r", "alpha"):
            if name in self.unused:
                self.require(
                    getattr(self, name) is None, name, f"nothing: {self.variant} has no such setting"
                )
        if "r" not in self.unused:
            self.require(
                _is_int(self.r) and 1 <= self.r <= LARGEST_RANK,
                "r",
                f"a whole number from 1 to {LARGEST_RANK}",
            )
        if "alpha" not in self.unused:
            self.require(is_number(self.alpha) and self.alpha > 0, "alpha", "a finite number above 0")
        self.require(self.dtype in ADAPTER_DTYPES.values(), "dtype", f"one of {', '.join(ADAPTER_DTYPES)}")
        # A scalar meets half precision in float32.
        smallest = torch.finfo(torch.promote_types(self.dtype, torch.float32)).tiny
        in_range = smallest <= self.scale <= torch.finfo(self.dtype).max
        self.require(in_range, "alpha", f"alpha / r within the range of {self.dtype}")
        for name in PATTERNS:
            self._check_patterns(name)
        roles = get_args(Role)
        self.require(all(r in roles for r in self.target_roles), "target_roles", f"any of {', '.join(roles)}")
        if self.layers is not None:
            self.require(bool(self.layers), "layers", "at least one index, or None for all layers")
            self.require(
                all(_is_int(i) and i >= 0 for i in self.layers), "layers", "whole numbers, 0 or more"
            )
        for name, choices in _choices(cast(Any, type(self))).items():
            self.require(getattr(self, name) in choices, name, f"one of {choices}")

    def _normalise(self) -> None:
        """Lists become tuples and one bare string becomes a tuple of one, so that equal configs compare
        equal.
        """
        for name in ("target_names", "exclude_names", "target_roles", "layers"):
            value = getattr(self, name)
            if isinstance(value, str):
                # Frozen: a plain assignment is refused here too.
                object.__setattr__(self, name, (value,))
            elif isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
            elif not (isinstance(value, tuple) or (name == "layers" and value is None)):
                self.require(False, name, "a tuple or a list")

    def _check_patterns(self, name: str) -> None:
        for pattern in getattr(self, name):
            self.require(isinstance(pattern, str) and pattern != "", name, "non-empty regular expressions")
            if isinstance(pattern, _Untried):
                continue
            try:
                re.compile(pattern)
            except NO_PATTERN as error:
                raise ConfigError(
                    f"{type(self).__name__}.{name}: {pattern!r} is no regular expression: {error}."
                ) from error

    def require(self, holds: bool, name: str, wanted: str) -> None:
        """Raise ConfigError for field `name` unless `holds`."""
        if not holds:
            raise ConfigError(
                f"{type(self).__name__}.{name}: found {getattr(self, name)!r}, wanted {wanted}."
            )

    def tried(self) -> Self:
        """A copy, whose patterns are regular expressions: those of a file need not be. Raises ConfigError."""
        plain: dict[str, Any] = {name: tuple(map(str, getattr(self, name))) for name in PATTERNS}
        return dataclasses.replace(self, **plain)

    @property
    def scale(self) -> float:
        """s = alpha / r; 1 for a variant without alpha."""
        return 1.0 if "alpha" in self.unused else self.alpha / self.r

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, every field present."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["dtype"] = next(name for name, dtype in ADAPTER_DTYPES.items() if dtype == self.dtype)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of to_json. A setting of the variant's own that is missing, as it is newer than the
        values, has its default. Raises ConfigError on any other missing field, an unknown or an invalid one.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        # Every file has had these. A default in their place would change the adapter silently.
        missing = sorted({field.name for field in dataclasses.fields(AdapterConfig)} - set(values))
        unknown = sorted(set(values) - known)
        if missing or unknown:
            raise ConfigError(
                f"{cls.__name__}: missing fields {missing[:5]}, unknown fields {unknown[:5]}. What is unknown"
                " may come from a newer version: install the one that wrote it."
            )
        if not isinstance(values["dtype"], str) or values["dtype"] not in ADAPTER_DTYPES:
            raise ConfigError(
                f"{cls.__name__}.dtype: found {values['dtype']!r}, wanted one of {sorted(ADAPTER_DTYPES)}."
            )
        return cls(**{**values, **_untried(values), "dtype": ADAPTER_DTYPES[values["dtype"]]})


def refuse_dtype(dtype: torch.dtype | None, whose: str) -> None:
    """Raise ConfigError on a dtype that no adapter can have; None is one that nobody chose."""
    if dtype is not None and dtype not in ADAPTER_DTYPES.values():
        raise ConfigError(
            f"{whose}: dtype is {dtype!r}, wanted None or a torch dtype among {', '.join(ADAPTER_DTYPES)}."
        )


class _Untried(str):
    """A pattern of a file with many or long ones. load takes the layers that the file lists: it need not find
    out, at whatever cost, whether this is a regular expression. Whoever attaches with the config will.
    """


def _untried(values: dict[str, Any]) -> dict[str, list[Any]]:
    """The patterns, where there are so many that they are not tried."""
    lists = {name: values[name] for name in PATTERNS}
    # A bare string counts as a list of one.
    lists = {name: [held] if isinstance(held, str) else held for name, held in lists.items()}
    strings = [pattern for held in lists.values() if isinstance(held, list) for pattern in held]
    if sum(len(pattern) for pattern in strings if isinstance(pattern, str)) <= TRIED:
        return {}
    return {
        name: [_Untried(pattern) if isinstance(pattern, str) else pattern for pattern in held]
        for name, held in lists.items()
        if isinstance(held, list)
    }


# Remembered: to resolve the annotations takes seven times as long as all checks of a config.
@cache
def _choices(config_class: Any) -> dict[str, tuple[Any, ...]]:
    """The fields annotated as a Literal, and what it allows."""
    hints = get_type_hints(config_class)
    return {name: get_args(kind) for name, kind in hints.items() if get_origin(kind) is Literal}


def _is_int(value: object) -> bool:
    # To Python True is an int, and would pass for a rank of 1.
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it is a finite int or float."""
    # The comparison is false for NaN and Inf, and exact for an int that is too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
