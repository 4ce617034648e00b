"""Disks that fail: system calls of save that are refused, one after the other, and places that are full."""

import errno
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lora_lite import writing

# What lora_lite.writing asks of the system: by os, by open(), by the file that it gives, and by fcntl.
CALLS = (
    *("open", "stat", "fstat", "scandir", "unlink", "chmod", "fchmod", "fchown", "fsync", "replace"),
    *("listxattr", "getxattr", "setxattr", "write", "flock"),
)
# Full, over quota, a broken disk, a right or a whole file system lost meanwhile.
CODES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS)


class Failing:
    """Counts the calls, and fails at one of them; `lasting`: and at all that follow.

    told: which call that was.
    """

    def __init__(self, at: int | None = None, code: int = errno.EIO, *, lasting: bool = False) -> None:
        self.at, self.code, self.lasting = at, code, lasting
        self.ran, self.told = 0, ""

    def call(self, name: str, function: Callable[..., Any], *given: Any, **more: Any) -> Any:
        number, self.ran = self.ran, self.ran + 1
        if self.at is not None and (number == self.at or (self.lasting and number > self.at)):
            self.told = self.told or name
            raise OSError(self.code, os.strerror(self.code), *[each for each in given[:1] if name != "write"])
        return function(*given, **more)


class _Through:
    """Whatever another object has, its calls of the system counted."""

    def __init__(self, inner: Any, failing: Failing) -> None:
        self._inner, self._failing = inner, failing

    def __getattr__(self, name: str) -> Any:
        held = getattr(self._inner, name)
        if name not in CALLS:
            return held
        return lambda *given, **more: self._failing.call(name, held, *given, **more)

    def __enter__(self) -> "_Through":
        self._inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._inner.__exit__(*error)


@contextmanager
def failing_calls(failing: Failing) -> Iterator[None]:
    """Inside, lora_lite.writing reaches the system through it."""

    def opened(*given: Any, **more: Any) -> Any:
        return _Through(failing.call("open", open, *given, **more), failing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "os", _Through(os, failing))
        patch.setattr(writing, "open", opened, raising=False)
        # Absent on Windows.
        if locks := vars(writing)["fcntl"]:
            patch.setattr(writing, "fcntl", _Through(locks, failing))
        yield


@contextmanager
def full_file(room: int) -> Iterator[None]:
    """No file can grow beyond `room` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(pages: int) -> Iterator[Path | None]:
    """A folder on a disk of its own with so many pages; None where the system lets us make none."""
    with tempfile.TemporaryDirectory() as folder:
        size = pages * resource.getpagesize()
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", folder],
            capture_output=True,
            check=False,
        )
        try:
            yield Path(folder) if made.returncode == 0 else None
        finally:
            if made.returncode == 0:
                subprocess.run(["umount", folder], check=True)
