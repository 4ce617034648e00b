"""Writing a file among people and processes: all of it or nothing, and what stood there keeps what it was."""

import errno
import hashlib
import json
import os
import platform
import re
import stat
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from secrets import token_hex
from typing import Any, BinaryIO

import torch
from torch import Tensor

from lora_lite.memory import raw

try:
    import fcntl
except ImportError:  # Windows has no flock: left-over files stay there until somebody deletes them
    fcntl = None  # type: ignore[assignment]


# The dtypes of adapters, as safetensors names them.
KINDS = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}


def plain_path(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    """Any path that the system takes, as text; bytes that are no UTF-8 as Python has them everywhere."""
    return os.fsdecode(path)


def shown(path: str) -> str:
    """A path as a message can print it: escaped where it holds a newline, or bytes that are no UTF-8."""
    return path if path.isprintable() else repr(path)


def save_file(tensors: Mapping[str, Tensor], place: str, *, metadata: dict[str, str]) -> None:
    """A safetensors file, of contiguous tensors on the CPU: byte for byte what safetensors makes of them.

    safetensors' own function takes no place whose name is no UTF-8, tells the system's errors as none, and
    takes three times as long for an adapter's many small tensors.
    """
    # The widest numbers first, as it does: each then lies at a multiple of its size.
    ordered = sorted(tensors.items(), key=lambda named: (-named[1].element_size(), named[0]))
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        kind = KINDS[tensor.dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    try:
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # A layer's name may be any string, half of a surrogate pair included.
        text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(place, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in ordered:
            file.write(raw(tensor))


def write_atomically(path: str, write: Callable[[str], Any]) -> None:
    """Have `write` make a file beside `path`, and move it there once it is whole and on the disk.

    What stood there gives it its mode, owner, group and extended attributes (the owner where the system lets
    us, which as a rule it does root alone); a symbolic link stays, and what it points to is replaced; another
    hard link to it keeps the old content. A pipe, a terminal or /dev/null is written into. A new file gets
    what open() would give it.

    The file beside it is called .lora_lite-<digest of the name>-<host>-<process>-<random>.tmp and is locked
    while its process lives: the next save to the same place removes those whose process died.

    Raises OSError where open(path, "wb") would, or where its folder takes no new file. What was there before
    is whole then.
    """
    old = _standing(path)
    special = old is not None and not stat.S_ISREG(old.st_mode)
    try:
        if special:
            write(path)
        else:
            _replace(_meant(path), write, old)
    except OSError as error:
        # By the name that the user gave, and not by that of the file beside it.
        told = f"{shown(path)}: it could not be written: {error.strerror or error}."
        told += "" if special else " What was there before is whole."
        raise OSError(error.errno or errno.EIO, told) from error


def _replace(target: str, write: Callable[[str], Any], old: os.stat_result | None) -> None:
    """Write a file beside the target, and move it there."""
    folder, own = os.path.split(target)
    # Not the name itself: one of 255 bytes, the most that there can be, would leave no room.
    prefix = f".lora_lite-{hashlib.sha256(os.fsencode(own)).hexdigest()[:16]}-"
    beside = os.path.join(folder, f"{prefix}{_HOST}-{os.getpid()}-{token_hex(4)}.tmp")
    _clear(folder or os.curdir, prefix)
    try:
        # Nobody may read the new file who may not read the old one.
        with _claimed(beside, 0o666 if old is None else 0o600) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            # An umask may take the right to write from the owner too, who has the file open by then.
            if strict := mode & 0o600 != 0o600:
                os.chmod(beside, mode | 0o600)
            write(beside)
            if old is not None:
                _take_after(file.fileno(), target, old)
            elif strict:
                os.chmod(beside, mode)
            # On the disk before it takes the old file's place: whatever crashes, one of the two is whole.
            os.fsync(file.fileno())
            os.replace(beside, target)
    except BaseException:
        # What cannot be removed (the right to was lost meanwhile) the next save clears.
        with suppress(OSError):
            os.unlink(beside)
        raise


def _meant(path: str) -> str:
    """Where the file's own link leads, if it is one. Not the whole real path, which may be longer than the
    system takes.
    """
    # As many as Linux follows: _standing() has seen no loop, but somebody may have made one since.
    for _ in range(40):
        if not os.path.islink(path):
            break
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    return path


_HOST = re.sub(r"[^A-Za-z0-9.]", "_", platform.node())[:40] or "unknown"


def _standing(path: str) -> os.stat_result | None:
    """What is at `path`, through links; None where there is nothing. Raises OSError as open() would."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if path and not path.endswith(os.sep):
            return None
        code = errno.EISDIR if path else errno.ENOENT
        raise OSError(code, os.strerror(code), path) from None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if stat.S_ISBLK(found.st_mode):
        raise OSError(errno.EINVAL, "found a block device, wanted a file", path)
    if stat.S_ISREG(found.st_mode):
        # To move a file there takes no right to the one that it replaces: ask for it all the same.
        os.close(os.open(path, os.O_WRONLY))
    return found


def _claimed(name: str, mode: int) -> BinaryIO:
    """A new file, locked as long as it is open: by that others see that its process lives."""
    while True:
        file = open(name, "xb", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115
        if fcntl is None:
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            # A file system without locks.
            return file
        if os.path.exists(name):
            return file
        # Another saver took it for a dead one's before it was locked.
        file.close()


def _clear(folder: str, prefix: str) -> None:
    """Remove what dead processes left."""
    # Where they cannot be listed, opened, locked or removed they stay: it is not what save is asked for.
    with suppress(OSError):
        for entry in os.scandir(folder):
            left = entry.name.startswith(prefix) and entry.is_file(follow_symlinks=False)
            if left and fcntl is not None:
                with suppress(OSError), open(entry.path, "r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry.path)


def _take_after(file: int, target: str, old: os.stat_result) -> None:
    """Give the new file the owner, group, mode and extended attributes of the one that it replaces."""
    if not hasattr(os, "fchown"):
        return
    mode, new = stat.S_IMODE(old.st_mode), os.fstat(file)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(file, old.st_uid, old.st_gid)
        except PermissionError:
            mode &= 0o777
            try:
                os.fchown(file, -1, old.st_gid)
            except PermissionError:
                # What one group was allowed is not for another.
                mode &= 0o707
    # After the owner, a change of which takes bits away.
    os.fchmod(file, mode)
    if hasattr(os, "listxattr"):
        with suppress(OSError):
            for name in os.listxattr(target):
                os.setxattr(file, name, os.getxattr(target, name))
