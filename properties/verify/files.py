"""The adapter's file or folder as it is: read to be told of, where lora_lite's own readers refuse."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from properties.verify.report import CannotJudgeError, Report

CONFIG, TENSORS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
# Where a tensor's own name begins, behind that of its layer, in files of peft: as its methods prefix them.
OWN = re.compile(
    r"\.(?=(?:lora|ia3|hra|delora|oft|boft|vera|hada|lokr|fourierft|randlora|shira|miss|road|c3a|bone|vblora)_)"
)
# What a number that was too large is clamped to, or comes out as, in dtypes narrower than float64.
LARGEST = tuple(torch.finfo(dtype).max for dtype in (torch.float16, torch.bfloat16, torch.float32))


@dataclass
class File:
    """An adapter as it lies there.

    config   peft's adapter_config.json; of a lora_lite file its header
    tensors  by the name in the file
    """

    path: str
    is_peft: bool
    config: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def task(self) -> str | None:
        return self.config.get("task_type") if self.is_peft else None

    @property
    def dtype(self) -> torch.dtype:
        """The coarsest that holds all of its numbers: what was computed on a bfloat16 base may lie there as
        float32.
        """
        held = [tensor for tensor in self.tensors.values() if tensor.is_floating_point()]
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            if all(torch.equal(tensor.to(dtype).to(tensor.dtype), tensor) for tensor in held):
                return dtype
        return torch.float64


class DamagedError(Exception):
    """An adapter that cannot be read: it does not act, whatever the base."""


def open_adapter(path: str) -> File:
    """Raises CannotJudgeError where there is none, DamagedError where it is no whole one."""
    place = Path(path)
    if place.is_dir():
        if not (place / CONFIG).is_file():
            raise CannotJudgeError(f"{path}: a folder without {CONFIG}, wanted one that peft wrote.")
        if not (place / TENSORS).is_file():
            raise CannotJudgeError(f"{path}: a folder without {TENSORS}, wanted one that peft wrote.")
        _, tensors = _read(place / TENSORS)
        return File(path, True, _json((place / CONFIG).read_bytes(), CONFIG), tensors)
    if not place.is_file():
        raise CannotJudgeError(f"{path}: no such file or folder.")
    metadata, tensors = _read(place)
    if "lora_lite" not in metadata:
        raise CannotJudgeError(
            f"{path}: a safetensors file without a lora_lite header, wanted one that lora_lite.save wrote, or"
            " a folder of peft."
        )
    return File(path, False, _json(metadata["lora_lite"].encode(), "header"), tensors)


def _read(path: Path) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DamagedError(f"{path.name} is no whole safetensors file: {error}") from error


def _json(content: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise DamagedError(f"its {what} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise DamagedError(f"its {what} is no JSON object")
    return found


def layer_of(key: str) -> str:
    """The layer that a tensor belongs to, as the file names it."""
    name = key.removeprefix(PREFIX)
    parts = OWN.split(name, maxsplit=1)
    # Of an embedding peft saves the base's own weight too.
    return (parts[0] if len(parts) > 1 else name.rpartition(".")[0]).removesuffix(".base_layer")


def names_of(keys: Iterable[str]) -> list[str]:
    """The layers of tensors by their names in a file, each once."""
    return list(dict.fromkeys(map(layer_of, keys)))


def look_at_numbers(file: File, report: Report) -> None:
    """NaN, Inf, and numbers at the end of a dtype's range."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key, tensor in file.tensors.items():
        for fault in _faults(tensor):
            found[fault].append(layer_of(key))
    for (kind, text), layers in found.items():
        report.fault(kind, text, dict.fromkeys(layers))


def _faults(tensor: Tensor) -> Iterator[tuple[str, str]]:
    if not tensor.is_floating_point():
        return
    if tensor.isnan().any():
        yield "NaN in the file", "NaN among its numbers"
    if tensor.isinf().any():
        yield "Inf in the file", "Inf among its numbers"
    size = tensor.double().abs()
    for largest in LARGEST:
        if (size == largest).any():
            yield "saturated numbers", f"numbers at the end of a dtype's range, ±{largest:.3g}"
