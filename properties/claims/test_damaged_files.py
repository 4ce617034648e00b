"""Files from anywhere: load takes what save wrote, bit for bit, or refuses with a LoraLiteError and leaves
the model alone.
"""

import os
import resource
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import lora_lite as ll
from properties.judging.assertions import assert_holds, assert_refuses
from properties.judging.claim import claim
from properties.judging.files import (
    adapted,
    base,
    config_of,
    declare_keys,
    outcome,
    refused,
    rewrite,
    saved,
    scratch_file,
)
from properties.subjects import subject
from properties.subjects.attaching import attach
from strategies import DamagedFile, damaged_files
from strategies.files import NUMBER_EDITS


def outcome_of(file: DamagedFile) -> str:
    """What load makes of the damaged file.

    With a digest that was made to fit, what loads may differ from what was saved.
    """
    model = attach(file.case).model
    with scratch_file() as path:
        subject.save(model, path)
        path.write_bytes(file.damage(path.read_bytes()))
        return outcome(file.case.build(), path, None if file.forged else subject.tensors(model))


@claim(damaged_files, stage="load")
def test_a_damaged_file_is_refused_or_holds_what_was_saved(file: DamagedFile) -> None:
    outcome_of(file)


@claim(partial(damaged_files, edits=NUMBER_EDITS, most=1, forgeries=st.just(False)), stage="load")
def test_another_number_in_a_file_is_noticed(file: DamagedFile) -> None:
    """One bit of a tensor, a config's alpha, a rank, a size: well-formed, and not what was saved."""
    assert_holds(outcome_of(file) != "loaded", claim="a file with another number loads")


def assert_never_loads(
    change: Callable[[bytes, int], bytes], positions: Callable[[bytes], Iterable[int]], claim: str
) -> None:
    """One small file, changed at each position in turn, is refused."""
    with saved(adapted()) as path:
        whole, plain = path.read_bytes(), base()
        for at in positions(whole):
            path.write_bytes(change(whole, at))
            assert_holds(
                outcome(plain, path, None) != "loaded", claim=f"{claim} {at} of {len(whole)} bytes loads"
            )


def flipped(whole: bytes, bit: int) -> bytes:
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def data(whole: bytes) -> int:
    """Where the tensors begin."""
    return 8 + int(struct.unpack("<Q", whole[:8])[0])


@claim(stage="load")
def test_every_truncation_is_refused() -> None:
    assert_never_loads(lambda whole, length: whole[:length], lambda whole: range(len(whole)), "a file cut at")


@claim(stage="load")
def test_every_flipped_bit_of_the_data_is_noticed() -> None:
    """A weight that is off by one bit leaves a well-formed file: only the digest tells."""
    assert_never_loads(
        flipped, lambda whole: range(8 * data(whole), 8 * len(whole)), "a file with a flip of bit"
    )


@claim(stage="load")
def test_flipped_bits_of_the_header_are_noticed() -> None:
    """Another alpha, another name, another size: every seventh bit."""
    assert_never_loads(flipped, lambda whole: range(0, 8 * data(whole), 7), "a file with a flip of bit")


class Allocated(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__ has no types
    """Counts the bytes of what torch makes, views included; tensors on the meta device have none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **kwargs or {})
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and not tensor.is_meta:
                self.bytes += tensor.untyped_storage().nbytes()
        return made


def declare_a_large_rank(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    config_of(header).update(r=2**20)
    header["adapters"][0]["targets"]["0"].update(r=2**20)


def declare_further_tensors(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    tensors |= {f"x{i}": torch.zeros(1000) for i in range(20)}


@claim(stage="load")
def test_what_a_file_declares_is_not_allocated() -> None:
    """A rank of a million takes no memory, and tensors that no adapter asks for are never read."""
    for declare, match in (
        (declare_a_large_rank, r"tensor A has shape \(2, 6\), wanted \(1048576, 6\)"),
        (declare_further_tensors, "unknown tensors"),
    ):
        with saved() as path:
            rewrite(path, declare)
            plain = base()
            with Allocated() as allocated, assert_refuses(ll.CheckpointError, match, claim=declare.__name__):
                ll.load(plain, path)
            claim = (
                f"{declare.__name__}: {allocated.bytes} bytes allocated, wanted what the adapters' own"
                " tensors take"
            )
            assert_holds(allocated.bytes < 10_000, claim=claim)


@claim(stage="save")
def test_places_that_cannot_be_used_are_named() -> None:
    """An OSError, as open() would raise; the folder as before."""
    with saved(model := adapted()) as path:
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
        assert_holds(left == [path.name, "folder"], claim=f"refused places left {left}")


@contextmanager
def without_permission(path: Path) -> Iterator[None]:
    """Nobody may read the file, and we are nobody: root may read anything."""
    path.parent.chmod(0o755)
    path.chmod(0)
    user = os.geteuid()
    try:
        os.seteuid(65534 if user == 0 else user)
        yield
    finally:
        os.seteuid(user)


@claim(stage="load")
def test_a_file_that_may_not_be_read_is_not_called_missing() -> None:
    with saved() as path, without_permission(path):
        refused(base(), path, PermissionError, "Permission denied", "a file without permission")


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file can grow beyond `room` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@claim(stage="save")
def test_a_full_disk_leaves_the_old_file() -> None:
    """And an OSError that says so, and no half-written file."""
    with saved() as path:
        old = path.read_bytes()
        with (
            full_disk(room=100),
            assert_refuses(OSError, f"{path.name}: it could not be written", claim="save to a full disk"),
        ):
            ll.save(adapted(ll.HRAConfig(r=4)), path)
        assert_holds(path.read_bytes() == old, claim="save to a full disk changed the old file")
        assert_holds(list(path.parent.iterdir()) == [path], claim="save to a full disk left a file behind")


@claim(stage="load")
def test_many_keys_are_refused_unread() -> None:
    """A hundred thousand here; a million in properties/fuzz/__main__.py, where nearly all the time is
    safetensors' own.
    """
    with saved() as path:
        declare_keys(path, 100_000)
        with Allocated() as allocated:
            refused(base(), path, ll.CheckpointError, "0: tensor A is missing", "a file with many tensors")
        assert_holds(
            allocated.bytes < 10_000, claim=f"100,000 keys allocated {allocated.bytes} bytes of tensors"
        )
