"""Runs of pytest in processes that fork from one with torch in it, whose import takes longer than the run.

Each is what `python -m pytest` in a folder is, in a session of processes of its own. Its workers, where it
has some, start cold as ever. Only torch is there before: what pytest rewrites must be imported by pytest.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

OURS = ("lora_lite", "lora_lite_pytest", "properties", "strategies")


@cache
def _warm() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch"])
    return context


class Session:
    """A run under way. What it prints goes to a file, which holds nobody up that is left running."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
        with tempfile.NamedTemporaryFile(prefix="printed-", delete=False) as file:
            self.printed = Path(file.name)
        given = (folder, arguments, dict(environment), self.printed)
        self.process = _warm().Process(target=_run, args=given)
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def code(self) -> int | None:
        """How it ended, as subprocess tells it; None while it runs."""
        return self.process.exitcode

    def ended(self, timeout: float = 300) -> tuple[int, str]:
        """How it ended, and what it printed. Raises TimeoutError, with what it started killed."""
        self.process.join(timeout)
        if late := self.code is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.join()
        text = self.printed.read_text(encoding="utf-8", errors="replace")
        self.printed.unlink()
        if late or self.code is None:
            raise TimeoutError(f"no end in {timeout} s:\n{text}")
        return self.code, text


def _run(folder: Path, arguments: tuple[str, ...], environment: dict[str, str], printed: Path) -> None:
    """In the new process: what a new interpreter would begin with, and pytest."""
    os.setsid()
    with printed.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (
        open(number, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    added = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = [f"{folder}", *added]
    # This function came with its packages, which pytest wants to import, and rewrite, itself.
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.argv = ["pytest", *arguments]
    code = pytest.main(list(arguments))
    sys.stdout.flush()
    sys.stderr.flush()
    # As a new interpreter's end, without what multiprocessing would wait for.
    os._exit(code)
