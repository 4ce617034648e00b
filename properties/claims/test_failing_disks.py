"""Disks that are full or fail, rights that are lost midway, strange clocks, locales and places: save leaves
the old file or the new one, nothing else, and an OSError that says so.
"""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import lora_lite as ll
from properties.judging.assertions import assert_holds, assert_refuses, assert_runs
from properties.judging.claim import claim
from properties.judging.failing_calls import CODES, Failing, failing_calls, full_file, small_disk
from properties.judging.files import adapted, assert_untouched, base, saved, scratch_file, scratch_folder
from properties.judging.sharing_files import VALUES, holding, loaded


@claim(stage="save", needs=("posix",), subject="lora_lite")
def test_a_full_disk_leaves_the_old_file() -> None:
    """And an OSError that says so, and no half-written file: where no file may grow; and on a small disk of
    its own, where one can be made. Once there is room the next save succeeds.
    """
    larger = adapted(ll.HRAConfig(r=2048))
    with saved(on_disk=True) as path:
        old, match = path.read_bytes(), f"{path.name}: it could not be written: File too large"
        with full_file(room=100), assert_refuses(OSError, match, claim="save to a full disk"):
            ll.save(larger, path)
        assert_untouched(path, old, "after save to a full disk")
    with small_disk(pages=4) as folder:
        if folder is None:
            return
        ll.save(adapted(), path := folder / "adapter.safetensors")
        old, match = path.read_bytes(), f"{path.name}: it could not be written: No space left"
        with assert_refuses(OSError, match, claim="save to a small disk"):
            ll.save(larger, path)
        assert_untouched(path, old, "after save to a small disk")
        with assert_runs("save of what there is room for"):
            ll.save(adapted(), path)


@claim(stage="save", needs=("posix",), subject="lora_lite")
def test_whatever_call_of_the_system_fails_one_version_is_whole() -> None:
    """Each that save makes, once and from there on, over an old file and where none was: full, broken, or a
    right that is lost midway. The old file or the new one is there, an error names the place and the cause,
    what could not be removed is recognised, and the next save clears it.
    """
    for turn, (standing, lasting) in enumerate(itertools.product((True, False), repeat=2)):
        # Each call fails in another way each time.
        for at in itertools.count():
            failing = Failing(at, CODES[(at + turn) % len(CODES)], lasting=lasting)
            if not _one_call_fails(failing, standing):
                break
        assert_holds(at > 8, claim=f"save made {at} calls of the system, wanted all of them counted")


def _one_call_fails(failing: Failing, standing: bool) -> bool:
    """Whether there was such a call."""
    with scratch_file(on_disk=True) as path:
        if standing:
            ll.save(_model(0), path)
        told = None
        with failing_calls(failing):
            try:
                ll.save(_model(1), path)
            except OSError as error:
                told = error
        what = f"{os.strerror(failing.code)} at call {failing.at}, {failing.told}"
        if told is not None:
            clear = told.errno == failing.code and path.name in str(told)
            assert_holds(clear, claim=f"{what}: save raised {told!r}")
        wanted = VALUES[1] if told is None else VALUES[0] if standing else None
        with assert_runs(f"load after {what}"):
            found = loaded(path) if path.exists() else None
        assert_holds(found == wanted, claim=f"{what}: the file holds {found}, wanted {wanted}")
        left = {entry.name for entry in path.parent.iterdir()} - {path.name}
        recognised = all(name.startswith(".lora_lite-") and name.endswith(".tmp") for name in left)
        what += f": save left {left}"
        assert_holds(recognised and (failing.lasting or not left), claim=what)
        ll.save(_model(1), path)
        now = [entry.name for entry in path.parent.iterdir()]
        assert_holds(now == [path.name], claim=f"{what}; the next one left {now}")
        assert_holds(loaded(path) == VALUES[1], claim=f"{what}; the next one saved something else")
    return bool(failing.told)


MODELS: dict[int, nn.Module] = {}


def _model(number: int) -> nn.Module:
    if number not in MODELS:
        MODELS[number] = holding(VALUES[number])
    return MODELS[number]


@claim(stage="save", subject="lora_lite")
def test_save_and_load_go_by_no_clock() -> None:
    """One that stands still, jumps back, or is at either end of what it can tell; files from then too."""
    with saved(_model(0), on_disk=True) as path:
        old = path.read_bytes()
        for now in (0.0, -1.0, 2.0**32, 2.0**40):
            with pytest.MonkeyPatch.context() as patch:
                for name in ("time", "monotonic", "perf_counter"):
                    patch.setattr(time, name, lambda now=now: now)
                    patch.setattr(time, f"{name}_ns", lambda now=now: int(now * 1e9))
                os.utime(path, (now, now))
                ll.save(_model(0), path)
                with assert_runs(f"load at {now:.0f} seconds after 1970"):
                    loaded(path)
            assert_holds(
                path.read_bytes() == old, claim=f"the file of {now:.0f} seconds after 1970 is another"
            )


NAME = "I\u0131\u0130i"
SCRIPT = """
import locale, sys
for name in ("tr_TR.UTF-8", "tr_TR.ISO-8859-9", "de_DE.UTF-8"):
    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error:
        pass
from properties.claims import test_failing_disks
test_failing_disks.save_named(sys.argv[1])
print(sys.getfilesystemencoding())
"""


def save_named(path: str) -> None:
    """Save and load what has letters of no locale's in its name."""
    torch.manual_seed(0)
    model = nn.ModuleDict({NAME: nn.Linear(3, 3)})
    ll.attach(model, ll.IA3Config(target_names=(NAME,)))
    ll.save(model, path)
    ll.detach(model)
    ll.load(model, path)


@claim(stage="save", needs=("posix",), subject="lora_lite", slow=True)
def test_a_locale_changes_no_byte_of_a_file() -> None:
    """In a process whose file system speaks ASCII, whose numbers have a comma, and whose i has no dot."""
    with scratch_folder(on_disk=True) as folder:
        path, again = folder / "\u0131.safetensors", folder / "again"
        plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        command: list[str | bytes] = [sys.executable, "-c", SCRIPT, os.fsencode(path)]
        done = subprocess.run(command, env={**os.environ, **plain}, capture_output=True, check=False)
        ended = done.stdout.strip() == b"ascii"
        assert_holds(ended, claim=f"in the C locale it said {done.stdout!r} and {done.stderr!r}")
        save_named(str(again))
        same = path.read_bytes() == again.read_bytes()
        assert_holds(same, claim="a file of the C locale is another than one of this")


@claim(stage="save", subject="lora_lite")
def test_a_layer_of_any_name_is_saved() -> None:
    """Half of a surrogate pair, a newline, NUL, safetensors' own word, longer than a file's name may be."""
    for name in ("\udcff", "a\nb \0", "__metadata__", " ", "x" * 3000):
        model = nn.ModuleDict({name: nn.Linear(3, 3)})
        ll.attach(model, ll.LoRAConfig(r=2))
        with scratch_file(on_disk=True) as path, assert_runs(f"save and load of a layer called {name[:9]!r}"):
            ll.save(model, path)
            ll.detach(model)
            (handle,) = ll.load(model, path)
        assert_holds(handle.targets == (name,), claim=f"{name[:9]!r} comes back as {handle.targets!r:.40}")


@contextmanager
def deep_folder() -> Iterator[None]:
    """Inside, the working folder lies deeper than any path that the system takes."""
    before = os.open(os.curdir, os.O_RDONLY)
    with scratch_folder(on_disk=True) as folder:
        try:
            os.chdir(folder)
            for _ in range(50):
                os.mkdir("d" * 100)
                os.chdir("d" * 100)
            yield
        finally:
            os.fchdir(before)
            os.close(before)


@claim(stage="save", needs=("posix",), subject="lora_lite")
def test_a_place_that_has_no_absolute_path_is_saved_to() -> None:
    """A short name in a folder deeper than paths may be long, and a link there."""
    with deep_folder():
        os.symlink("target", "link")
        for name in ("a", "link"):
            with assert_runs(f"save and load of {name!r} in a very deep folder"):
                ll.save(adapted(), name)
                ll.load(base(), name)
        found = sorted(os.listdir())
        assert_holds(found == ["a", "link", "target"], claim=f"save left {found} in a very deep folder")


@claim(stage="save", needs=("posix",), subject="lora_lite")
def test_a_device_that_is_full_is_told_by_its_name() -> None:
    """It holds nothing, and nothing of it is called whole."""
    if os.path.exists("/dev/full"):
        match = r"^\[Errno \d+\] /dev/full: it could not be written: No space left on device\.$"
        with assert_refuses(OSError, match, claim="save to a full device"):
            ll.save(adapted(), "/dev/full")
