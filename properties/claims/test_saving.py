"""What save writes, and where: a whole file or none, the old one where it fails, nothing that load would
refuse.
"""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_lite as ll
from properties.judging.assertions import assert_holds, assert_refuses, assert_runs
from properties.judging.claim import claim
from properties.judging.files import (
    adapted,
    assert_untouched,
    base,
    nobody_special,
    refused,
    saved,
    scratch_file,
    umask,
)
from properties.judging.fixed_models import Stack, on


@claim(stage="save", subject="lora_lite")
def test_a_crash_while_saving_leaves_the_old_file() -> None:
    """And nothing else in its folder."""

    def crash(tensors: Any, place: str, metadata: Any) -> None:
        Path(place).write_bytes(b"half")
        raise KeyboardInterrupt

    with saved(on_disk=True) as path, pytest.MonkeyPatch.context() as patch:
        old = path.read_bytes()
        patch.setattr("lora_lite.checkpoint.save_file", crash)
        with assert_refuses(KeyboardInterrupt, "", claim="a crash in the middle of save"):
            ll.save(adapted(ll.IA3Config()), path)
        assert_untouched(path, old, "after a crash while saving")


@claim(stage="save", subject="lora_lite")
def test_places_that_cannot_be_used_are_named() -> None:
    """An OSError, as open() would raise; the folder as before."""
    with saved(model := adapted(), on_disk=True) as path:
        (folder := path.with_name("folder")).mkdir()
        for place, saving in (
            (path / "below-a-file", NotADirectoryError),
            (folder, IsADirectoryError),
            (folder / "no" / "such", FileNotFoundError),
        ):
            refused(base(), place, FileNotFoundError, "no such file", f"load from {place.name}")
            with assert_refuses(saving, place.name, claim=f"save to {place.name}"):
                ll.save(model, place)
        left = sorted(entry.name for entry in path.parent.iterdir())
        wanted = [path.name, "folder"]
        found = f"after saves to places that cannot be used the folder holds {left}, wanted {wanted}"
        assert_holds(left == wanted, claim=found)


@claim(stage="save", subject="lora_lite")
def test_an_adapter_that_diverged_is_not_saved() -> None:
    """And the file that was there before stays."""
    adapter = on(model := Stack(), "lora")
    with saved(model, on_disk=True) as path:
        whole, match = path.read_bytes(), "^second.B: found NaN or Inf"
        with torch.no_grad():
            dict(adapter.named_parameters())["second.B"][0, 0] = torch.nan
        with assert_refuses(ll.CheckpointError, match, claim="save of an adapter that holds NaN"):
            ll.save(model, path)
        assert_untouched(path, whole, "after save of an adapter that holds NaN")


@claim(stage="save", subject="lora_lite")
def test_an_adapter_of_two_dtypes_is_not_saved() -> None:
    """A part of it was cast: load would refuse the file, when what was trained is gone."""
    adapter = on(model := Stack(), "lora")
    adapter.layers()["second"].bfloat16()
    match = "^second: tensor A is torch.bfloat16, wanted torch.float32"
    tried = "save of an adapter in two dtypes"
    with scratch_file(on_disk=True) as path, assert_refuses(ll.CheckpointError, match, claim=tried):
        ll.save(model, path)


@claim(stage="save", needs=("posix",), subject="lora_lite")
def test_a_saved_file_has_the_mode_of_any_new_file() -> None:
    """What open() gives, by the umask, strict as it may be; not the 0o600 of a temporary file, and no other
    bit.
    """
    for bits in (0, 0o022, 0o027, 0o077, 0o777):
        with scratch_file(on_disk=True) as path, nobody_special(path.parent), umask(bits):
            with assert_runs(f"save under the umask {bits:03o}"):
                ll.save(adapted(), path)
            mode, wanted = stat.S_IMODE(path.stat().st_mode), 0o666 & ~bits
            now = os.umask(bits)
        found = f"umask {bits:03o}: the file's mode is {mode:04o}, wanted {wanted:04o}"
        assert_holds(mode == wanted, claim=found)
        assert_holds(now == bits, claim=f"save left the umask at {now:03o}, found {bits:03o}")
