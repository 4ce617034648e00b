"""Files from anywhere: load takes what save wrote, bit for bit, or refuses with a LoraLiteError and leaves
the model alone.
"""

import os
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
        file.lay(path, path.read_bytes())
        return outcome(file.case.build(), path, None if file.forged else subject.tensors(model))


@claim(damaged_files, stage="load", subject="lora_lite")
def test_a_damaged_file_is_refused_or_holds_what_was_saved(file: DamagedFile) -> None:
    """Whatever was done to its bytes."""
    outcome_of(file)


@claim(
    partial(damaged_files, edits=NUMBER_EDITS, most=1, forgeries=st.just(False)),
    stage="load",
    subject="lora_lite",
)
def test_another_number_in_a_file_is_noticed(file: DamagedFile) -> None:
    """One bit of a tensor, a config's alpha, a rank, a size: well-formed, and not what was saved."""
    found = f"a file loads in which another number was put by {file.edits}"
    assert_holds(outcome_of(file) != "loaded", claim=found)


def assert_never_loads(
    change: Callable[[bytes, int], bytes],
    positions: Callable[[bytes], Iterable[int]],
    changed: Callable[[int, int], str],
) -> None:
    """One small file, changed at each position in turn, is refused.

    changed: what it then is, by the position and the length of the whole.
    """
    with saved(adapted()) as path:
        whole, plain = path.read_bytes(), base()
        for at in positions(whole):
            path.write_bytes(change(whole, at))
            assert_holds(outcome(plain, path, None) != "loaded", claim=f"{changed(at, len(whole))} loads")


def flipped(whole: bytes, bit: int) -> bytes:
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def data(whole: bytes) -> int:
    """Where the tensors begin."""
    return 8 + int(struct.unpack("<Q", whole[:8])[0])


@claim(stage="load", subject="lora_lite")
def test_every_truncation_is_refused() -> None:
    """To any length, nothing included."""
    assert_never_loads(
        lambda whole, length: whole[:length],
        lambda whole: range(len(whole)),
        lambda length, size: f"a file cut to {length} of {size} bytes",
    )


def with_flip(bit: int, size: int) -> str:
    return f"a file of {size} bytes with bit {bit % 8} of byte {bit // 8} flipped"


@claim(stage="load", subject="lora_lite")
def test_every_flipped_bit_of_the_data_is_noticed() -> None:
    """A weight that is off by one bit leaves a well-formed file: only the digest tells."""
    assert_never_loads(flipped, lambda whole: range(8 * data(whole), 8 * len(whole)), with_flip)


@claim(stage="load", subject="lora_lite")
def test_flipped_bits_of_the_header_are_noticed() -> None:
    """Another alpha, another name, another size: every seventh bit."""
    assert_never_loads(flipped, lambda whole: range(0, 8 * data(whole), 7), with_flip)


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


@claim(stage="load", subject="lora_lite")
def test_what_a_file_declares_is_not_allocated() -> None:
    """A rank of a million takes no memory, and tensors that no adapter asks for are never read."""
    for declare, match in (
        (declare_a_large_rank, r"tensor A has shape \(2, 6\), wanted \(1048576, 6\)"),
        (declare_further_tensors, "unknown tensors"),
    ):
        with saved() as path:
            rewrite(path, declare)
            plain = base()
            tried = f"load of a file that was made to {declare.__name__.replace('_', ' ')}"
            with Allocated() as allocated, assert_refuses(ll.CheckpointError, match, claim=tried):
                ll.load(plain, path)
            found = f"{tried} allocated {allocated.bytes} bytes, wanted what the adapters' own tensors take"
            assert_holds(allocated.bytes < 10_000, claim=found)


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


@claim(stage="load", subject="lora_lite")
def test_a_file_that_may_not_be_read_is_not_called_missing() -> None:
    """A PermissionError, as open() would raise."""
    with saved() as path, without_permission(path):
        refused(base(), path, PermissionError, "Permission denied", "load of a file that may not be read")


@claim(stage="load", subject="lora_lite")
def test_many_keys_are_refused_unread() -> None:
    """A hundred thousand here; a million in properties/fuzz/__main__.py, where nearly all the time is
    safetensors' own.
    """
    with saved() as path:
        declare_keys(path, 100_000)
        tried = "load of a file of 100,000 tensors"
        with Allocated() as allocated:
            refused(base(), path, ll.CheckpointError, "0: tensor A is missing", tried)
        assert_holds(allocated.bytes < 10_000, claim=f"{tried} allocated {allocated.bytes} bytes of tensors")
