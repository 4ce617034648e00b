"""Files with adapters in them, whole and damaged, and what load makes of them."""

import copy
import json
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import Violation, assert_all_identical, assert_holds, assert_refuses
from properties.judging.place import in_memory
from properties.judging.snapshot import assert_as_before, snapshot_of
from properties.subjects import subject

BASE = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 6, bias=False))


Damage = Callable[[dict[str, Tensor], dict[str, Any]], Any]


def base() -> nn.Sequential:
    """A fresh copy of the same small model."""
    return copy.deepcopy(BASE)


def adapted(config: ll.AdapterConfig | None = None) -> nn.Module:
    """That model with a trained adapter."""
    model = base()
    ll.attach(model, config or ll.LoRAConfig(r=2))
    with torch.no_grad():
        for parameter in ll.adapters_of(model)[0].parameters():
            parameter.add_(0.1)
    return model


@contextmanager
def saved(model: nn.Module | None = None, *, on_disk: bool = False) -> Iterator[Path]:
    """A file with the adapters of `model`, alone in its folder."""
    with scratch_file(on_disk=on_disk) as path:
        ll.save(model or adapted(), path)
        yield path


def refused(
    model: nn.Module, path: Path, error: type[Exception], match: str, claim: str, **options: Any
) -> None:
    """load raises this, and leaves the model as it was. claim: what is tried, from the word "load" on."""
    before = snapshot_of(model)
    with assert_refuses(error, match, claim=claim):
        ll.load(model, path, **options)
    assert_as_before(model, before, claim=f"after a refused {claim}")


def assert_untouched(path: Path, whole: bytes, after: str) -> None:
    """The file holds what it held, and lies alone in its folder."""
    assert_holds(path.read_bytes() == whole, claim=f"{after} the old file is another")
    left = sorted(entry.name for entry in path.parent.iterdir())
    assert_holds(left == [path.name], claim=f"{after} the folder holds {left}, wanted the old file alone")


def rewrite(path: Path, change: Damage) -> None:
    """Write the file again after a change of its tensors and its parsed header."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        header = json.loads(file.metadata()["lora_lite"])
    change(tensors, header)
    save_file(tensors, path, metadata={"lora_lite": json.dumps(header)})


def config_of(header: dict[str, Any]) -> dict[str, Any]:
    return header["adapters"][0]["config"]  # type: ignore[no-any-return]


@contextmanager
def scratch_folder(*, on_disk: bool = False) -> Iterator[Path]:
    """For one example, gone afterwards; function-scoped fixtures do not fit inside @given.

    on_disk: for a claim about what a file system does.
    """
    with tempfile.TemporaryDirectory(dir=None if on_disk else in_memory()) as folder:
        yield Path(folder)


@contextmanager
def scratch_file(*, on_disk: bool = False) -> Iterator[Path]:
    """A place for one example's file, alone in its folder; gone afterwards."""
    with scratch_folder(on_disk=on_disk) as folder:
        yield folder / "adapter.safetensors"


@contextmanager
def umask(bits: int) -> Iterator[None]:
    """New files of this process lack these bits."""
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def nobody_special(folder: Path) -> Iterator[None]:
    """Inside, this process has no more rights than any user, and all of them in the folder: root is refused
    nothing, and a save that goes wrong under it could replace a device.
    """
    folder.chmod(0o777)
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)


Tensors = dict[str, dict[str, Tensor]]


def outcome(model: nn.Module, path: Path, written: Tensors | None, read: Callable[..., Any] = ll.load) -> str:
    """What load, or another reader, makes of the file: the name of the error that it refuses it with, or
    "loaded".

    What loads must be `written`, if that is given, and must run. Raises Violation on anything else, and where
    the model is not as before: after a refusal, and after a load and detach.
    """
    before = snapshot_of(model)
    try:
        read(model, path)
        found = "loaded"
    except ll.LoraLiteError as error:
        found = type(error).__name__
    except Exception as error:
        raise Violation(
            f"{read.__name__} raised {type(error).__name__}: {error}, wanted a LoraLiteError"
        ) from error
    if found == "loaded":
        try:
            check_loaded(model, written)
        finally:
            ll.detach(model)
    told = "a load and detach" if found == "loaded" else f"a load that was refused with {found}"
    assert_as_before(model, before, claim=f"after {told}")
    return found


def check_loaded(model: nn.Module, written: Tensors | None) -> None:
    loaded = subject.tensors(model)
    if written is not None:
        found = f"the file is loaded onto the layers {list(loaded)}, it was written for {list(written)}"
        assert_holds(list(loaded) == list(written), claim=found)
        for target, tensors in written.items():
            what = f"the adapter loaded onto {target}"
            assert_all_identical(loaded[target], tensors, what=what, like="what was saved")
    for layer in (module for module in model.modules() if isinstance(module, nn.Linear)):
        try:
            layer(torch.zeros(1, layer.in_features, dtype=layer.weight.dtype, device=layer.weight.device))
        except Exception as error:
            raise Violation(f"what was loaded does not run: {type(error).__name__}: {error}") from error


def declare_keys(path: Path, count: int) -> None:
    """Make of a valid file one whose header has this many tensors, all of them empty."""
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    header = json.dumps({"__metadata__": metadata, **{f"x{i}": entry for i in range(count)}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
