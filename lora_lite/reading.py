"""Reading an adapter's file: opened once, its header checked, and its tensors read when they are asked for.

Not through safetensors' own reader. It opens the file by name, for the header and again for the tensors, and
may see two versions of it; and it maps the file, so that whoever shortens it meanwhile kills the reader.
"""

import json
import os
import reprlib
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import Any

import torch
from torch import Tensor

from lora_lite.errors import CheckpointError
from lora_lite.memory import raw
from lora_lite.writing import KINDS, shown

# Goes up with every change of what a file says; load reads these.
FORMAT, READ = 3, (2, 3)
HEADER = "lora_lite"
KEYS = ("format", "adapters", "base", "digest")
DTYPES = {kind: dtype for dtype, kind in KINDS.items()}
# Bytes of a header, as safetensors has it.
LONGEST = 100_000_000
# A file may be larger than what it takes on the disk, where it has holes; one with real numbers never by so
# much. Small ones may: it costs nothing.
HOLLOW, SMALL = 1000, 2**26


class _DamagedError(Exception):
    """What is wrong with the file, for a message that names it."""


@dataclass(frozen=True)
class Entry:
    """What the header says of a tensor. dtype is None for one that no adapter can have, called `kind`."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def dtype(self) -> torch.dtype | None:
        return DTYPES.get(self.kind)


class Tensors(set[str]):
    """The names of an open file's tensors that nobody has taken yet, and the digests of those that were."""

    def __init__(
        self,
        path: str,
        file: BufferedReader,
        entries: dict[str, Any],
        start: int,
        digest: Callable[[Tensor], str],
    ) -> None:
        super().__init__(entries)
        self.digests: dict[str, str] = {}
        self._path, self._file, self._entries, self._start, self._digest = path, file, entries, start, digest

    def look(self, name: str) -> Entry | None:
        """What the file says of a tensor, which is then taken; None where it is not there."""
        if name not in self:
            return None
        self.remove(name)
        held = self._entries[name]
        return Entry(held["dtype"], tuple(held["shape"]), *held["data_offsets"])

    def read(self, name: str, entry: Entry) -> Tensor:
        """The numbers, read now and not before: a file may declare a million tensors. Its shape and dtype
        have been found to be those that are wanted.
        """
        made = torch.empty(entry.shape, dtype=entry.dtype)
        if made.nbytes != entry.end - entry.begin:
            told = f"{name} has {entry.end - entry.begin} bytes, wanted {made.nbytes}"
            raise CheckpointError(_not_whole(self._path, told))
        self._file.seek(self._start + entry.begin)
        if self._file.readinto(raw(made)) != made.nbytes:
            raise CheckpointError(_not_whole(self._path, f"{name} ends early: the file was shortened"))
        self.digests[name] = self._digest(made)
        return made


@contextmanager
def opened(path: str, digest: Callable[[Tensor], str]) -> Iterator[tuple[dict[str, Any], Tensors]]:
    """The header of a file, and its tensors while it is open."""
    with opened_tensors(path, digest) as (metadata, tensors):
        if not isinstance(metadata, dict) or not isinstance(text := metadata.get(HEADER), str):
            raise CheckpointError(
                f"{shown(path)}: a safetensors file without a {HEADER!r} header. Load files written by"
                " lora_lite.save; a folder of peft's is read by lora_lite.import_peft."
            )
        yield _parse_header(path, text), tensors


@contextmanager
def opened_tensors(path: str, digest: Callable[[Tensor], str]) -> Iterator[tuple[Any, Tensors]]:
    """The metadata of any safetensors file, and its tensors while it is open."""
    if not os.path.isfile(path):
        _refuse_what_is_no_file(path)
    with open(path, "rb") as file:
        try:
            metadata, entries, start = _layout(file)
        except _DamagedError as error:
            raise CheckpointError(_not_whole(path, str(error))) from error
        yield metadata, Tensors(path, file, entries, start, digest)


def _refuse_what_is_no_file(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{shown(path)}: no such file.") from None
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
    peft = os.path.exists(os.path.join(path, "adapter_config.json"))
    hint = " It is one of peft's: lora_lite.import_peft reads it." if peft else ""
    raise FileNotFoundError(f"{shown(path)}: no such file, but {kind}.{hint}")


def _not_whole(path: str, why: str) -> str:
    return f"{shown(path)}: not a whole safetensors file: {why}. Save or copy it again, with lora_lite.save."


def _layout(file: BufferedReader) -> tuple[Any, dict[str, Any], int]:
    """The metadata, what the header says of each tensor, and where the tensors begin."""
    held = os.fstat(file.fileno())
    # Some file systems do not tell how much a file takes, and say 0.
    if held.st_size > SMALL and 0 < getattr(held, "st_blocks", 0) * 512 < held.st_size / HOLLOW:
        found = f"{held.st_size} bytes long, {held.st_blocks * 512} of them on the disk: it is all holes"
        raise _DamagedError(found)
    length = int(struct.unpack("<Q", first)[0]) if len(first := file.read(8)) == 8 else held.st_size
    start = 8 + length
    if length > LONGEST or start > held.st_size:
        raise _DamagedError(f"a header of {length} bytes in a file of {held.st_size}")
    try:
        header = parsed(_text(file, length))
    except (ValueError, RecursionError) as error:
        raise _DamagedError(f"invalid header: {error}") from error
    if not isinstance(header, dict):
        raise _DamagedError("its header is no JSON object")
    metadata = header.pop("__metadata__", None)
    _refuse_gaps(header, held.st_size - start)
    return metadata, header, start


def _text(file: BufferedReader, length: int) -> str:
    text = bytearray()
    while len(text) < length:
        piece = file.read(min(2**20, length - len(text)))
        # JSON has no zero byte, of which a hole is full: it is not read to its end.
        if not piece or b"\0" in piece:
            raise _DamagedError("its header ends early")
        text += piece
    return text.decode()


def parsed(text: str) -> Any:
    """JSON. Raises ValueError or RecursionError."""

    # Python's json takes NaN and Infinity, which are no JSON.
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    # An empty list takes two characters, and sixty bytes once it is parsed; a tensor's entry has three
    # brackets in more than fifty characters.
    if text.count("[") + text.count("{") > 1000 + len(text) / 8:
        raise ValueError("more brackets than a header has")
    return json.loads(text, parse_constant=refuse)


def _refuse_gaps(entries: dict[str, Any], room: int) -> None:
    """Raise unless each entry is well-formed, and they take up all the room, one after the other."""
    end = 0
    try:
        for entry in sorted(entries.values(), key=lambda entry: entry["data_offsets"]):
            first, last = entry["data_offsets"]
            whole = all(type(number) is int and 0 <= number < 2**63 for number in (*entry["shape"], last))
            if not whole or not isinstance(entry["dtype"], str) or first != end or last < first:
                raise _DamagedError(f"invalid header: a tensor {reprlib.repr(entry)}, wanted at byte {end}")
            end = last
    except (TypeError, KeyError, ValueError, RecursionError) as error:
        raise _DamagedError("invalid header: a tensor without dtype, shape or offsets") from error
    if end != room:
        raise _DamagedError(f"it has {room} bytes of tensors, its header speaks of {end}")


def _parse_header(path: str, text: str) -> dict[str, Any]:
    try:
        header: Any = parsed(text)
    except (ValueError, RecursionError) as error:
        # RecursionError: brackets that nest deeper than Python follows.
        raise CheckpointError(f"{shown(path)}: the header is not valid JSON: {error}.") from error
    _require(path, isinstance(header, dict), "the header", "a JSON object")
    if type(header.get("format")) is not int or header["format"] not in READ:
        known = " and ".join(map(str, READ))
        raise CheckpointError(
            f"{shown(path)}: format {header.get('format')!r}, this version of lora_lite reads {known}."
            " Install the one that wrote it."
        )
    _require(path, set(header) == set(KEYS), "the header", f"an object with the keys {', '.join(KEYS)}")
    _require(path, isinstance(header["digest"], str), "digest", "a string")
    entries = header["adapters"]
    _require(path, isinstance(entries, list) and entries, "adapters", "a list of at least one")
    for entry in entries:
        _check_adapter(path, entry)
    base = header["base"]
    digests = isinstance(base, dict) and all(isinstance(v, str) for v in base.values())
    _require(path, digests, "base", "a digest by name")
    checked: dict[str, Any] = header
    return checked


def _check_adapter(path: str, entry: Any) -> None:
    well_formed = isinstance(entry, dict) and set(entry) == {"variant", "config", "targets"}
    _require(path, well_formed, "each adapter", "a variant, a config and targets")
    _require(path, isinstance(entry["variant"], str), "variant", "a name")
    _require(path, isinstance(entry["config"], dict), "config", "a JSON object")
    targets = entry["targets"]
    _require(path, isinstance(targets, dict) and targets, "targets", "at least one layer")
    for own in targets.values():
        ranked = isinstance(own, dict) and set(own) == {"r", "alpha"}
        _require(path, ranked, "each target", "its r and alpha")


def _require(path: str, holds: object, what: str, wanted: str) -> None:
    if not holds:
        raise CheckpointError(f"{shown(path)}: damaged header: {what} should be {wanted}. Save it again.")
