"""Where a run's processor time goes, by stage and by test: a sampler that is a plugin of pytest.

`python -m properties.speed --profile properties --variant lora` starts pytest with it. Every process of the
run, children and workers too, is asked each INTERVAL of its own processor time what it is doing, and appends
what it saw to a file of its own. What is imported before pytest has read its options is not seen.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

FOLDER = "LORA_LITE_PROFILE"
INTERVAL = 0.01
# Seconds of processor time between two writings: a process that is killed loses no more than these.
WRITTEN = 0.5
ROOT = f"{Path(__file__).parents[2]}{os.sep}"

# The stage of a frame, by what its file's path holds and what its function is called; the first that fits.
# The stack is read from its innermost frame, so that torch's time is its caller's.
STAGES: Sequence[tuple[str, str, frozenset[str]]] = (
    ("importing", "<frozen importlib", frozenset()),
    ("attaching", f"{ROOT}lora_lite", frozenset({"attach", "initialise", "reset", "install", "calibrate"})),
    ("saving and loading", f"{ROOT}lora_lite", frozenset({"save", "load"})),
    ("building", f"{ROOT}strategies", frozenset({"build"})),
    ("models of transformers", f"{os.sep}transformers{os.sep}", frozenset()),
    ("oracle", f"{ROOT}properties/oracles", frozenset()),
    ("oracle", f"{ROOT}properties/judging/expected.py", frozenset()),
    ("comparing", f"{ROOT}properties/judging/tolerance.py", frozenset()),
    ("comparing", f"{ROOT}properties/judging/assertions.py", frozenset()),
    ("drawing", f"{ROOT}strategies", frozenset()),
    ("injecting", f"{ROOT}properties/mutation/", frozenset({"injected", "compiled"})),
    ("running", f"{ROOT}properties/subjects", frozenset()),
    ("running", f"{ROOT}lora_lite", frozenset()),
    ("claims", f"{ROOT}properties/claims", frozenset()),
    ("audit", f"{ROOT}properties/audit", frozenset()),
    ("judging", f"{ROOT}properties/judging", frozenset()),
    ("mutation engine", f"{ROOT}properties/mutation", frozenset()),
    ("tests of the suite", f"{ROOT}properties/instruments", frozenset()),
    ("hypothesis", f"{os.sep}hypothesis{os.sep}", frozenset()),
    ("collection", f"{os.sep}_pytest{os.sep}", frozenset({"perform_collect", "collect"})),
    ("pytest", f"{os.sep}_pytest{os.sep}", frozenset()),
)


def stage_of(frame: FrameType | None) -> str:
    """Of the innermost frame that some stage knows."""
    while frame is not None:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        for stage, part, names in STAGES:
            if part in path and (not names or name in names):
                return stage
        frame = frame.f_back
    return "elsewhere"


class Sampler:
    """One a process; a forked child starts afresh."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.test = "(no test)"
        self._begin()
        os.register_at_fork(after_in_child=self._begin)
        atexit.register(self.write)

    def _begin(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.last = self.written = time.process_time()
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def _look(self, number: int, frame: FrameType | None) -> None:
        # A long call into torch delays the signal: what passed counts, not how often it rang.
        now = time.process_time()
        self.seen[self.test, stage_of(frame)] += int(1e6 * (now - self.last))
        self.last = now
        if now - self.written > WRITTEN:
            self.write()

    def write(self) -> None:
        self.written = time.process_time()
        lines = [json.dumps([test, stage, spent]) + "\n" for (test, stage), spent in self.seen.items()]
        self.seen.clear()
        with (self.folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(lines)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        self.test = getattr(item, "originalname", item.name)
        try:
            return (yield)
        finally:
            self.test = "(no test)"
            self.write()


def pytest_configure(config: pytest.Config) -> None:
    """With -p properties.speed.profile; the environment says where to."""
    config.pluginmanager.register(Sampler(Path(os.environ[FOLDER])), "profile")


def profiled(arguments: Sequence[str], shown: int = 25) -> Iterator[str]:
    """Runs pytest with these arguments; its last line, then the table."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-p", "properties.speed.profile", *arguments]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, FOLDER: folder})
        wall = time.perf_counter() - began
        yield (done.stdout.strip().splitlines() or done.stderr.strip().splitlines())[-1]
        yield from table(Path(folder), wall, shown)


def table(folder: Path, wall: float, shown: int) -> Iterator[str]:
    """Processor seconds by stage, then the tests that took most, and how much of the cores they used."""
    stages: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for file in folder.glob("*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            test, stage, spent = json.loads(line)
            stages[stage] += spent
            tests[test] += spent
    total = sum(stages.values())
    cores = os.cpu_count() or 1
    used = f"{total / 1e6:.0f} s of processor time, {total / 1e4 / wall / cores:.0f} % of {cores} cores"
    yield f"{wall:.0f} s of wall time, {used}"
    for counted, limit in ((stages, None), (tests, shown)):
        yield ""
        for name, spent in counted.most_common(limit):
            yield f"{spent / 1e6:8.1f} s {100 * spent / max(total, 1):5.1f} %  {name}"
