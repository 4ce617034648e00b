"""Several processes and one file: savers that are killed, savers and readers that race."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import torch
from torch import nn

import lora_lite as ll
from properties.judging.assertions import Violation, assert_holds

VALUES = (0.125, 0.25, 0.5)


def base() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))


def holding(value: float, r: int = 2) -> nn.Module:
    """The base with an adapter that holds this number everywhere; with a rank of its own, a size of its
    own.
    """
    adapter = ll.attach(model := base(), ll.LoRAConfig(r=r))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.fill_(value)
    return model


def loaded(path: Path) -> float:
    """The one number of the adapter in the file. Raises Violation where it holds more."""
    (adapter,) = ll.load(base(), path)
    found = {float(number) for p in adapter.parameters() for number in p.detach().flatten()}
    if len(found) != 1:
        raise Violation(f"what was loaded holds {sorted(found)}, wanted one of the saved versions")
    return found.pop()


@contextmanager
def child(act: Callable[[], object]) -> Iterator[int]:
    """Another process that does it; its number. Killed at the end, if it has not ended by then."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)
    try:
        yield pid
    finally:
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            # Somebody has waited for it: its number may be another process's by now.
            ended = pid
        if not ended:
            os.kill(pid, signal.SIGKILL)
            _wait(pid)


def _wait(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0


def forever(act: Callable[[], object]) -> None:
    while True:
        act()


def kill_savers(path: Path, kills: int, seed: int = 0) -> int:
    """Kill so many processes while they save over one file. It is always a whole one, and what they leave is
    gone after the next save.

    Returns how many left something.
    """
    random, left = Random(seed), 0
    ll.save(holding(VALUES[0]), path)
    models = [holding(value, r=2 + i) for i, value in enumerate(VALUES)]
    for number in range(kills):
        with child(lambda model=models[number % 3]: forever(lambda: ll.save(model, path))):  # type: ignore[misc]
            time.sleep(0.002 + random.random() * 0.01)
        assert_holds(loaded(path) in VALUES, claim="a killed save left another number")
        left += len(list(path.parent.iterdir())) > 1
    ll.save(models[0], path)
    found = [entry.name for entry in path.parent.iterdir()]
    assert_holds(found == [path.name], claim=f"after {kills} kills and a save the folder holds {found}")
    return left


def race(path: Path, loads: int) -> Counter[float]:
    """Two writers and three readers of one file; each reader loads it so many times. What they found."""
    models = [holding(value, r=2 + i) for i, value in enumerate(VALUES[:2])]
    ll.save(models[0], path)
    log = path.with_suffix(".log")

    def read() -> None:
        for _ in range(loads):
            number = loaded(path)
            with log.open("a") as file:
                file.write(f"{number}\n")

    with (
        child(lambda: forever(lambda: ll.save(models[0], path))) as first,
        child(lambda: forever(lambda: ll.save(models[1], path))) as second,
        child(read) as a,
        child(read) as b,
        child(read) as c,
    ):
        codes = [_wait(reader) for reader in (a, b, c)]
        ended = [pid for pid in (first, second) if os.waitpid(pid, os.WNOHANG)[0]]
    assert_holds(codes == [0, 0, 0], claim=f"readers of a file that is saved meanwhile ended with {codes}")
    assert_holds(not ended, claim="a writer failed beside another one")
    found = Counter(map(float, log.read_text().split()))
    log.unlink()
    assert_holds(set(found) <= set(VALUES[:2]), claim=f"readers found {dict(found)}")
    ll.save(models[0], path)
    left = [entry.name for entry in path.parent.iterdir()]
    assert_holds(left == [path.name], claim=f"after the race and a save the folder holds {left}")
    return found
