"""Stopping lora_lite at a line of its own, and telling whether what it was doing is as before or done."""

import gc
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

import lora_lite as ll
from properties.judging.assertions import Violation, assert_holds
from properties.judging.fixed_models import Stack, moved, on, simple_config, x
from properties.judging.place import in_memory
from properties.judging.snapshot import snapshot_of
from properties.subjects.attaching import seed_inits
from strategies.interrupts import Interrupt

Act = Callable[[], Any]
Way = tuple[tuple[CodeType, int], ...]


class Lines:
    """The lines of lora_lite that ran, and the error that is raised at one of them.

    at  the first is 0; None only counts. Further ones stop what the first one set off.
    """

    def __init__(self, error: type[BaseException], *at: int) -> None:
        self.error, self.at, self.ran, self.stopped = error, at, 0, ""
        # Of each way to a line, the first and the last time that it was gone; None where nobody asks.
        self.ways: dict[Way, tuple[int, int]] | None = None

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        # By the module and not by the file: the code of a mutant has none.
        if str(frame.f_globals.get("__name__")).partition(".")[0] != ll.__name__:
            return None
        if event == "line":
            self.ran += 1
            if self.ways is not None:
                way = _way(frame)
                self.ways[way] = (self.ways.get(way, (self.ran - 1,))[0], self.ran - 1)
            if self.ran - 1 in self.at:
                self.stopped += f" {os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
                raise self.error(f"at line {self.ran - 1}")
        return self


def _way(frame: FrameType | None) -> Way:
    """The lines that lead to this one, each of what the next one's function was called by."""
    lines = []
    while frame is not None and frame.f_globals.get("__name__") != __name__:
        lines.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(lines)


@contextmanager
def tracing(lines: Lines) -> Iterator[None]:
    """Inside, `lines` sees every line of lora_lite. No garbage is collected meanwhile: a finaliser's lines
    come when they like.
    """
    before = sys.gettrace()
    gc.disable()
    with warnings.catch_warnings():
        # An interrupt at the end of a `with` leaves the file to whoever clears away: later, and no worse.
        warnings.simplefilter("ignore", ResourceWarning)
        sys.settrace(lines)
        try:
            yield
        finally:
            sys.settrace(before)
            gc.enable()
            gc.collect(1)


def stopped(act: Act, error: type[BaseException], *at: int) -> Lines:
    """Do it, with the error at these lines; what ran. Raises what it raises besides that error."""
    lines = Lines(error, *at)
    with tracing(lines):
        try:
            act()
        except BaseException as caught:
            # calibrate tells what the model raised as an error of the batch, save what the system said.
            if not lines.stopped or error not in (type(caught), type(caught.__cause__)):
                raise
    return lines


@cache
def _saved(variant: str) -> bytes:
    model = Stack()
    moved(on(model, variant))
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        ll.save(model, path := Path(folder) / "a")
        return path.read_bytes()


class Scene:
    """A model before an operation, and the operation on it.

    folder  an empty one, for the file that load reads and save writes over
    """

    def __init__(self, variant: str, operation: str, folder: Path) -> None:
        self.model, self.path = Stack(), folder / "adapter.safetensors"
        # Not all alike, so that a flag that is set for all shows.
        self.model.second.eval()
        self.model.norm.weight.requires_grad_(False)
        if operation in ("load", "save"):
            self.path.write_bytes(_saved(variant))
        self.act: Act = getattr(self, "_" + operation.replace(" ", "_"))(variant)

    def _attach(self, variant: str) -> Act:
        return self._attaching(variant)

    def _attaching(self, variant: str, **common: Any) -> Act:
        config, data = simple_config(variant, **common), [x(9, seed=1), x(5, seed=2)]
        seed_inits(0)
        return lambda: ll.attach(self.model, config, data)

    def _second(self, variant: str) -> Act:
        on(self.model, "ia3", target_names="first")
        self.model(x(2))  # that a forward has reached it is no trace of the second one's calibration
        return self._attaching(variant, target_names=("second", "third"))

    def _load(self, variant: str) -> Act:
        return lambda: ll.load(self.model, self.path)

    def _merge(self, variant: str) -> Act:
        moved(on(self.model, variant))
        return lambda: ll.merge(self.model)

    def _detach(self, variant: str) -> Act:
        moved(on(self.model, variant))
        return lambda: ll.detach(self.model)

    def _detach_one(self, variant: str) -> Act:
        on(self.model, "ia3", target_names="first")
        return on(self.model, variant, target_names=("second", "third")).detach

    def _save(self, variant: str) -> Act:
        moved(on(self.model, variant), seed=1)
        return lambda: ll.save(self.model, self.path)

    def described(self) -> dict[str, Any]:
        """What must be as before, or as after: the model, its handles, torch's mode, the process's umask and
        the folder.
        """
        told: dict[str, Any] = {**snapshot_of(self.model)}
        # Other objects with the same numbers are the same adapter.
        told["identity"] = None
        try:
            told["handles"] = [(a.config, a.targets, list(a.layers())) for a in ll.adapters_of(self.model)]
        except AttributeError as error:
            # A handle whose layers carry nothing: neither before nor after.
            told["handles"] = str(error)
        told["gradients on"] = torch.is_grad_enabled()
        told["files"] = {path.name: path.read_bytes() for path in self.path.parent.iterdir()}
        os.umask(umask := os.umask(0))
        told["umask"] = umask
        return told


_SHARED: list[Path] = []


@contextmanager
def one_folder() -> Iterator[None]:
    """Inside, scenes one after the other share a folder: one for each would take as long as the scene."""
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        _SHARED.append(Path(folder))
        try:
            yield
        finally:
            _SHARED.pop()


@contextmanager
def scene(variant: str, operation: str) -> Iterator[Scene]:
    """In an empty folder; torch is as it should be afterwards, whatever came."""
    with nullcontext() if _SHARED else one_folder():
        folder = _SHARED[-1]
        try:
            yield Scene(variant, operation, folder)
        finally:
            torch.set_grad_enabled(True)
            for path in folder.iterdir():
                path.unlink()


@cache
def undisturbed(variant: str, operation: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """How many lines it takes, and what is told before and after it."""
    with scene(variant, operation) as there:
        before = there.described()
        count = stopped(there.act, KeyboardInterrupt).ran
        return count, before, there.described()


def forget_runs() -> None:
    """What undisturbed runs left: under another state of the library they leave something else."""
    undisturbed.cache_clear()
    _saved.cache_clear()


def assert_before_or_after(case: Interrupt, *further: int) -> None:
    """Stopped there, it is as before, or as after; and what the handles say is so.

    further: so many lines after the first one it is stopped again.
    """
    count, before, after = undisturbed(case.variant, case.operation)
    at = case.at % count
    with scene(case.variant, case.operation) as there:
        parameters = list(there.model.parameters())
        lines = stopped(there.act, case.kind, at, *(at + later for later in further))
        now = there.described()
        kept = {id(parameter) for parameter in there.model.parameters()}
        lost = [p for p in parameters if id(p) not in kept and now == before]
    what = f"{case.error} at line {at} of {count} of {case.operation},{lines.stopped}"
    assert_holds(not lost, claim=f"{what}: another parameter is in the place of one of the model's")
    if now not in (before, after):
        as_before = [name for name in now if now[name] == before[name] != after[name]]
        as_after = [name for name in now if now[name] == after[name] != before[name]]
        other = [name for name in now if now[name] not in (before[name], after[name])]
        raise Violation(f"{what}: {as_before} as before, {as_after} as after, {other} as neither")


def lines_of(variant: str, operation: str) -> int:
    """How many lines of lora_lite the operation runs."""
    return undisturbed(variant, operation)[0]


def turning_points(variant: str, operation: str) -> list[int]:
    """Of these lines the first and the last time that each is reached in the same way: in between, a loop
    does to another layer what it did to the first.
    """
    with scene(variant, operation) as there:
        lines = Lines(KeyboardInterrupt)
        lines.ways = {}
        with tracing(lines):
            there.act()
    return sorted({at for both in lines.ways.values() for at in both})
