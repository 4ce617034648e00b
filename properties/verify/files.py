"""The adapter's file or folder as it is: read to be told of, where lora_lite's own readers refuse."""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from properties.verify.report import CannotJudgeError, Report

CONFIG, TENSORS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
EXPORT, PICKLE = "lora_lite.export_peft", "adapter_model.bin"
# Where a tensor's own name begins, behind that of its layer, in files of peft: as its methods prefix them.
OWN = re.compile(
    r"\.(?=(?:lora|ia3|hra|delora|oft|boft|vera|hada|lokr|fourierft|randlora|shira|miss|road|c3a|bone|vblora"
    r"|osf|lily|tinylora|adamss|peanut|psoft|gralora|waveft|ln_tuning|token)_)"
)
# What a number that was too large is clamped to, or comes out as, in dtypes narrower than float64.
LARGEST = tuple(torch.finfo(dtype).max for dtype in (torch.float16, torch.bfloat16, torch.float32))


@dataclass
class File:
    """An adapter as it lies there.

    config   peft's adapter_config.json; of a lora_lite file its header
    tensors  by the name in the file
    base     the names of the base's tensors, where lora_lite wrote the file; () where it tells nothing of it
    """

    path: str
    is_peft: bool
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    base: tuple[str, ...] = ()

    @property
    def layers(self) -> list[str]:
        """Those that it has tensors for."""
        return names_of(list(self.tensors)) if self.is_peft else [name for name, _ in self._targets()]

    @property
    def heads(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the layers that it holds whole."""
        if not self.is_peft:
            whole = [name for name, variant in self._targets() if variant == "full"]
            return {n: tuple(self.tensors[f"{n}.W"].shape) for n in whole if f"{n}.W" in self.tensors}
        names = [key for key in self.tensors if key.endswith(".weight") and not OWN.search(key)]
        return {layer_of(key): tuple(self.tensors[key].shape) for key in names}

    def of(self, layer: str) -> dict[str, Tensor]:
        """A layer's tensors, by what they are called there."""
        front = f"{PREFIX * self.is_peft}{layer}."
        held = {key.removeprefix(front): t for key, t in self.tensors.items() if key.startswith(front)}
        return {own: t for own, t in held.items() if layer_of(f"{front}{own}") == layer}

    def variant(self, layer: str) -> str | None:
        """Of a lora_lite file."""
        return dict(self._targets()).get(layer)

    def _targets(self) -> Iterator[tuple[str, str]]:
        """Of a lora_lite file: each layer with its variant."""
        for entry in self.config.get("adapters") or ():
            if isinstance(entry, dict) and isinstance(entry.get("targets"), dict):
                yield from ((name, str(entry.get("variant"))) for name in entry["targets"])

    @property
    def dtype(self) -> torch.dtype:
        """The coarsest that holds all of its numbers: what was computed on a bfloat16 base may lie there as
        float32.
        """
        held = [tensor for tensor in self.tensors.values() if tensor.is_floating_point()]
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            if all(torch.equal(tensor.to(dtype).double(), tensor.double()) for tensor in held):
                return dtype
        return torch.float64


class DamagedError(Exception):
    """An adapter that cannot be read: it does not act, whatever the base."""


def open_adapter(path: str) -> File:
    """Raises CannotJudgeError where there is none, DamagedError where it is no whole one."""
    place = Path(path)
    if place.is_dir():
        _refuse_another(place)
        metadata, tensors = _read(place / TENSORS)
        # Where lora_lite wrote the folder.
        base = _json(metadata.get(EXPORT, "{}").encode(), "metadata").get("base") or {}
        return File(path, True, _json((place / CONFIG).read_bytes(), CONFIG), tensors, tuple(base))
    if not place.is_file():
        raise CannotJudgeError(f"{path}: no such file or folder.")
    metadata, tensors = _read(place)
    if "lora_lite" not in metadata:
        raise CannotJudgeError(
            f"{path}: a safetensors file without a lora_lite header, wanted one that lora_lite.save wrote, or"
            " a folder of peft."
        )
    header = _json(metadata["lora_lite"].encode(), "header")
    return File(path, False, header, tensors, tuple(header.get("base") or ()))


def _refuse_another(folder: Path) -> None:
    if not (folder / CONFIG).is_file():
        # peft saves an adapter that is not the default one in a folder of its name.
        inner = sorted(place.parent.name for place in folder.glob(f"*/{CONFIG}"))
        told = f"; there are some in it: {', '.join(inner)}" if inner else ""
        raise CannotJudgeError(f"{folder}: a folder without {CONFIG}, wanted one that peft wrote{told}.")
    if not (folder / TENSORS).is_file():
        pickled = (folder / PICKLE).is_file()
        told = f": have peft load {PICKLE} and save it again, which this command does not open" * pickled
        raise CannotJudgeError(f"{folder}: a folder without {TENSORS}, wanted one that peft wrote{told}.")


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


def layer_of(key: str, leaves: Collection[str] = ()) -> str:
    """The layer that a tensor belongs to, as the file names it. leaves: the model's modules without another
    in them, behind whose name a tensor's own begins, whatever method it is of.
    """
    name = key.removeprefix(PREFIX)
    ends = [dot.start() for dot in re.finditer(r"\.", name)]
    if found := next((name[:end] for end in reversed(ends) if name[:end] in leaves), ""):
        return found
    parts = OWN.split(name, maxsplit=1)
    # Of an embedding peft saves the base's own weight too.
    return (parts[0] if len(parts) > 1 else name.rpartition(".")[0]).removesuffix(".base_layer")


def names_of(keys: Iterable[str], leaves: Collection[str] = ()) -> list[str]:
    """The layers of tensors by their names in a file, each once."""
    return list(dict.fromkeys(layer_of(key, leaves) for key in keys))


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
    size = tensor.double().abs()
    if size.isnan().any():
        yield "NaN in the file", "NaN among its numbers"
    if size.isinf().any():
        yield "Inf in the file", "Inf among its numbers"
    for largest in LARGEST:
        if (size == largest).any():
            yield "saturated numbers", f"numbers at the end of a dtype's range, ±{largest:.3g}"
