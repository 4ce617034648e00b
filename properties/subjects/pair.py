"""Two processes in one group of torch's, which do together what they are asked to, one thing after another.

One that dies is told by its signal; for what is asked next, both are started again.
"""

import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import lora_lite as ll

PROCESSES = 2
# A process that waits this long for the other one gives up.
PATIENCE = timedelta(seconds=60)
# Each a new interpreter: two forks of one go through their sets in the same order, and two machines do not.
START = "spawn"

# What a process can be asked: given its rank and the folder of all files, it returns what can be pickled.
Work = Callable[..., dict[str, Any]]


class DiedError(RuntimeError):
    """A process died of what it was asked to do, or never answered."""


@cache
def folder() -> Path:
    """Where both write, until this process ends."""
    made = Path(tempfile.mkdtemp(prefix="lora-lite-"))
    # And not atexit, which does not run where this process is itself a forked one.
    Finalize(None, shutil.rmtree, (made, True), exitpriority=1)
    return made


class NoAnswerError(DiedError):
    """Both live, and have not answered in time: the machine is busy, or what they do hangs."""


class Pair:
    """The two processes. Starting them takes seconds."""

    def __init__(self) -> None:
        context: Any = mp.get_context(START)
        modules = sorted({variant.__module__ for variant in ll.VARIANTS.values()})
        store = f"{folder()}/store-{time.monotonic_ns()}"
        self.pipes: list[Connection[Any, Any]] = []
        self.processes: list[BaseProcess] = []
        for rank in range(PROCESSES):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(rank, store, modules, there), daemon=True)
            process.start()
            there.close()
            self.pipes.append(here)
            self.processes.append(process)

    def ask(self, work: Work, *arguments: Any) -> list[dict[str, Any]]:
        """What each answers, by rank. Raises DiedError, after which this pair is of no use any more."""
        answers: dict[int, dict[str, Any]] = {}
        try:
            for pipe in self.pipes:
                pipe.send((work, (folder(), *arguments)))
            ends = {process.sentinel: rank for rank, process in enumerate(self.processes)}
            while len(answers) < PROCESSES:
                waiting = [pipe for rank, pipe in enumerate(self.pipes) if rank not in answers]
                ready = wait([*waiting, *ends], 2 * PATIENCE.total_seconds())
                for rank, pipe in enumerate(self.pipes):
                    if pipe in ready:
                        answers[rank] = pipe.recv()
                if not ready or any(ends[end] not in answers for end in ready if end in ends):
                    raise EOFError
        except (EOFError, OSError) as error:
            if told := self._how():
                raise DiedError(told) from error
            raise NoAnswerError(f"two processes did not answer within {2 * PATIENCE}") from error
        finally:
            if len(answers) < PROCESSES:
                self.end()
        return [answers[rank] for rank in range(PROCESSES)]

    def _how(self) -> str:
        # A pipe breaks, and a sentinel is ready, a moment before the process has ended.
        ended = wait([process.sentinel for process in self.processes], 5)
        told = []
        for rank, process in enumerate(self.processes):
            process.join(5 if process.sentinel in ended else 0)
            code = process.exitcode
            if code is not None and code < 0:
                told.append(f"process {rank} was killed by {signal.Signals(-code).name}")
            elif code is not None:
                told.append(f"process {rank} ended with exit status {code}")
        return " and ".join(told)

    def end(self) -> None:
        """Both, whatever they do."""
        for process in self.processes:
            process.kill()
            process.join()


_pairs: list[Pair] = []


@cache
def asked(work: Work, *arguments: Any) -> list[dict[str, Any]]:
    """What each process answers, asked once; {"error": …} where it raised. Raises DiedError each time."""
    answers = _ask(work, arguments)
    if isinstance(answers, DiedError):
        raise type(answers)(str(answers))
    return answers


@cache
def _ask(work: Work, arguments: tuple[Any, ...]) -> list[dict[str, Any]] | DiedError:
    """A death is remembered too: to die again takes seconds. That there was no answer is not: the machine may
    have been busy.
    """
    if not _pairs:
        _pairs.append(Pair())
    try:
        return _pairs[0].ask(work, *arguments)
    except NoAnswerError:
        _pairs.clear()
        raise
    except DiedError as error:
        _pairs.clear()
        return error


def _serve(rank: int, store: str, modules: list[str], pipe: Any) -> None:
    """What each process does until nobody asks any more."""
    torch.set_num_threads(1)
    for module in modules:
        importlib.import_module(module)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=PROCESSES, timeout=PATIENCE
    )
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            work, arguments = pipe.recv()
            pipe.send(_attempt(work, rank, arguments))
    _leave()


def _attempt(work: Work, rank: int, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """What it returns, or the error that it ended with, when both are through."""
    try:
        return work(rank, *arguments)
    except Exception:
        return {"error": traceback.format_exc()}
    finally:
        dist.barrier()


def _leave() -> None:
    """End this process at once, with all written.

    gloo's threads live on where a sharded model holds its group, and one that wants the interpreter while it
    is being torn down aborts the process: SIGABRT, "terminate called without an active exception". What
    Python would do at exit is given up.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
