"""What the docstring of a variant's class says of its tensors, in the form of help(ll.LoRA)."""

import inspect
import re
from dataclasses import dataclass

import lora_lite as ll

# "    A  (r, d_in)  trained  starts at 0": its shape is an expression of widths and settings.
START = r"(?: +starts at ([\w.+-]+)(?=[,:;]|$))?"
ROW = re.compile(rf"^    (\w+) +(\(.*?\)) +(trained|frozen){START}", re.MULTILINE)


@dataclass(frozen=True)
class Told:
    """Of one tensor. start: a number, or the name of a setting, that all of it starts at; "" for neither."""

    trained: bool
    start: str


def told_of(variant: type[ll.Variant]) -> dict[str, Told]:
    """By the tensor's name, each that has a row; nothing of a class without a docstring of its own."""
    text = inspect.cleandoc(variant.__doc__ or "")
    return {name: Told(kind == "trained", start) for name, _, kind, start in ROW.findall(text)}


def start_of(told: Told, config: ll.AdapterConfig) -> float | None:
    """The number that it starts at, with these settings."""
    try:
        return float(getattr(config, told.start, told.start) if told.start else "none")
    except (TypeError, ValueError):
        return None
