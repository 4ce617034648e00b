"""Files among people and processes: what stood there stays what it was, and nobody sees half of a save."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save as as_safetensors
from torch import nn

import lora_lite as ll
from properties.judging.assertions import (
    Violation,
    assert_holds,
    assert_identical,
    assert_refuses,
    claim_is_about,
)
from properties.judging.claim import claim
from properties.judging.files import (
    adapted,
    base,
    nobody_special,
    refused,
    saved,
    scratch_file,
    scratch_folder,
    umask,
)
from properties.judging.interrupting import Lines, tracing
from properties.judging.sharing_files import VALUES, child, holding, kill_savers, loaded, race
from strategies.places import Place, places


def lay(folder: Path, place: Place) -> tuple[Path, Path]:
    """What stands at the place; its path, and that of the file that is meant."""
    path = target = folder / place.path
    if place.standing != "nothing":
        target = path if place.standing == "file" else folder / "target"
        if place.standing != "dangling link":
            target.write_bytes(b"old")
            target.chmod(place.mode)
        if place.standing == "link to a link":
            (folder / "between").symlink_to(target.name)
        if target != path:
            path.symlink_to("between" if place.standing == "link to a link" else target.name)
    return path, target


@claim(places, stage="save", needs=("posix",), about=("lora",), subject="lora_lite")
def test_any_place_is_saved_to_and_keeps_what_it_was(place: Place) -> None:
    """Any name; links stay links; an old file keeps its mode, a new one gets what open() would give it."""
    # These names are the links' own.
    claim_is_about(place.path not in ("target", "between"))
    with umask(place.umask), scratch_folder(on_disk=True) as folder:
        path, target = lay(folder, place)
        links = {entry.name: entry.readlink() for entry in folder.iterdir() if entry.is_symlink()}
        names = {entry.name for entry in folder.iterdir()} | {target.name}
        ll.save(adapted(), path)
        ll.load(base(), path)
        now = {entry.name: entry.readlink() for entry in folder.iterdir() if entry.is_symlink()}
        assert_holds(now == links, claim=f"save made {now} of the links {links}")
        found = {entry.name for entry in folder.iterdir()}
        assert_holds(found == names, claim=f"save left {found} in a folder, wanted {names}")
        fresh = place.standing in ("nothing", "dangling link")
        wanted = 0o666 & ~place.umask if fresh else place.mode
        mode = stat.S_IMODE(target.stat().st_mode)
        assert_holds(mode == wanted, claim=f"after save the mode is {mode:o}, wanted {wanted:o}")


@claim(stage="save", needs=("posix", "extended attributes"), subject="lora_lite")
def test_save_keeps_owner_and_attributes() -> None:
    """Where the system lets us: root may give a file away."""
    with saved(on_disk=True) as path:
        os.setxattr(path, "user.note", b"mine")
        if os.geteuid() == 0:
            os.chown(path, 1234, 1235)
        before = path.stat()
        ll.save(adapted(), path)
        after = path.stat()
        for what in ("st_uid", "st_gid", "st_mode"):
            found, wanted = getattr(after, what), getattr(before, what)
            assert_holds(found == wanted, claim=f"after save {what} is {found}, wanted {wanted}")
        found = {name: os.getxattr(path, name) for name in os.listxattr(path)}
        assert_holds(found.get("user.note") == b"mine", claim=f"after save the attributes are {found}")


@claim(stage="save", needs=("posix",), subject="lora_lite")
def test_what_is_no_plain_file_is_written_into_or_left() -> None:
    """A pipe and /dev/null stay what they are; another hard link keeps the old content; a file without the
    right to be written is refused, as open() does.
    """
    with saved(model := adapted(), on_disk=True) as path:
        old = path.read_bytes()
        os.link(path, other := path.with_name("other"))
        (null := path.with_name("null")).symlink_to("/dev/null")
        os.mkfifo(pipe := path.with_name("pipe"))
        # Open before there is a writer, so that neither waits for the other: a pipe holds 64 KiB.
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            ll.save(model, pipe)
            got = os.read(reader, 2**20)
        finally:
            os.close(reader)
        assert_holds(got == old, claim=f"a pipe carried {len(got)} bytes, wanted the file's {len(old)}")
        with nobody_special(path.parent):
            ll.save(model, null)
        assert_holds(stat.S_ISCHR(os.stat("/dev/null").st_mode), claim="save replaced /dev/null")
        refused(base(), pipe, FileNotFoundError, "no such file, but a pipe", "load from a pipe")
        ll.save(adapted(ll.IA3Config()), path)
        assert_holds(other.read_bytes() == old, claim="save changed another hard link to its file")


@claim(stage="save", needs=("posix",), subject="lora_lite")
def test_a_place_that_may_not_be_written_is_refused() -> None:
    """As open() refuses it: a file that is read-only, '' and a folder by its slash."""
    with saved(model := adapted(), on_disk=True) as path:
        path.chmod(0o444)
        with (
            nobody_special(path.parent),
            assert_refuses(PermissionError, path.name, claim="save over a read-only file"),
        ):
            ll.save(model, path)
        for place, error in (("", FileNotFoundError), (f"{path.parent}/new/", IsADirectoryError)):
            with assert_refuses(error, "No such file|Is a directory", claim=f"save to {place!r}"):
                ll.save(model, place)


@claim(stage="save", subject="lora_lite")
def test_a_file_is_what_safetensors_makes_of_it() -> None:
    """Byte for byte; two dtypes, and names beyond ASCII."""
    model = nn.ModuleDict({"ü": nn.Linear(3, 5), "b": nn.Linear(5, 3)})
    ll.attach(model, ll.LoRAConfig(r=2, target_names=("ü",)))
    ll.attach(model, ll.IA3Config(dtype=torch.bfloat16, target_names=("b",)))
    with saved(model, on_disk=True) as path, safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        same = as_safetensors(tensors, file.metadata()) == path.read_bytes()
        assert_holds(same, claim="the file is not what safetensors writes of the same tensors and metadata")


@claim(stage="save", needs=("posix",), subject="lora_lite")
def test_killed_savers_leave_the_old_file_and_what_the_next_one_clears() -> None:
    """A handful here; python -m properties.fuzz.races kills hundreds."""
    with scratch_file(on_disk=True) as path:
        kill_savers(path, 6)


@claim(stage="save", needs=("posix",), subject="lora_lite")
def test_what_another_living_saver_writes_is_left_alone() -> None:
    """Its half-made file is told from a dead one's, whichever of them was first."""
    with scratch_file(on_disk=True) as path, pytest.MonkeyPatch.context() as patch:

        def another() -> None:
            patch.undo()
            ll.save(holding(VALUES[1]), path)

        def meanwhile(tensors: Any, place: str, metadata: Any) -> None:
            Path(place).write_bytes(b"half")
            with child(another) as pid:
                os.waitpid(pid, 0)
            found = Path(place).read_bytes() if os.path.exists(place) else None
            assert_holds(found == b"half", claim=f"what one saver wrote is {found!r} after another one")
            raise KeyboardInterrupt

        patch.setattr("lora_lite.checkpoint.save_file", meanwhile)
        with assert_refuses(KeyboardInterrupt, "", claim="a crash in the middle of save"):
            ll.save(holding(VALUES[0]), path)
        assert_holds(loaded(path) == VALUES[1], claim="the other saver's file is not what it saved")


@claim(stage="load", needs=("posix",), subject="lora_lite")
def test_savers_and_readers_of_one_file_race_without_harm() -> None:
    """Two writers and three readers, twenty loads each; python -m properties.fuzz.races has a thousand."""
    with scratch_file(on_disk=True) as path:
        race(path, 20)


@claim(stage="load", subject="lora_lite")
def test_a_reader_sees_one_version() -> None:
    """Another file is moved into its place, or it is shortened, at one line of load after another."""
    with saved(holding(VALUES[0]), on_disk=True) as path, scratch_folder(on_disk=True) as folder:
        old = path.read_bytes()
        ll.save(holding(VALUES[1]), other := folder / "other")
        new = other.read_bytes()

        def replaced() -> None:
            other.write_bytes(new)
            os.replace(other, path)

        for change in (replaced, lambda: os.truncate(path, 100)):
            for at in range(0, 10_000, 31):
                path.unlink()
                path.write_bytes(old)
                if not _changed_at(at, change, lambda: _one_version(path)):
                    break


def _one_version(path: Path) -> None:
    """Loads one version, or refuses a file that ends early."""
    try:
        loaded(path)
    except ll.CheckpointError as error:
        told = "not a whole safetensors file" in str(error) and path.stat().st_size == 100
        if not told:
            raise Violation(f"a file that was replaced as it was read is refused: {error}") from error


class Changing(Lines):
    """Does something at one line of lora_lite, in place of an interrupt."""

    def __init__(self, at: int, change: Callable[[], Any]) -> None:
        super().__init__(KeyboardInterrupt)
        self.line, self.change = at, change

    def __call__(self, frame: Any, event: str, given: Any) -> Any:
        if self.ran == self.line + 1:
            self.ran += 1
            self.change()
        return super().__call__(frame, event, given)


def _changed_at(at: int, change: Callable[[], Any], act: Callable[[], Any]) -> bool:
    """Act, with the change at that line; whether there is such a line."""
    lines = Changing(at, change)
    with tracing(lines):
        act()
    return lines.ran > at


@claim(stage="save", subject="lora_lite")
def test_what_changes_while_it_is_saved_is_noticed() -> None:
    """An optimiser's step between one line of save and the next: it is refused, or all of the file is from
    before it or after it.
    """
    with scratch_file(on_disk=True) as path:
        for at in range(0, 10_000, 7):
            model = holding(VALUES[0])
            parameters = list(ll.adapters_of(model)[0].parameters())

            def step(parameters: list[nn.Parameter] = parameters) -> None:
                with torch.no_grad():
                    for parameter in parameters:
                        parameter.fill_(VALUES[1])

            def act(model: nn.Module = model) -> None:
                try:
                    ll.save(model, path)
                except ll.CheckpointError as error:
                    told = "changed while they were" in str(error)
                    assert_holds(told, claim=f"a step in the middle of save: {error}")
                else:
                    loaded(path)

            if not _changed_at(at, step, act):
                return


@claim(stage="save", subject="lora_lite")
def test_a_path_of_bytes_is_taken() -> None:
    """And one that is a PathLike of them; as open() takes them."""
    with scratch_file(on_disk=True) as path:
        place = os.fsencode(path.with_name(os.fsdecode(b"\xff\n")))
        ll.save(model := adapted(), place)
        ll.load(plain := base(), place)
        x = torch.ones(1, 6)
        assert_identical(plain(x), model(x), what="what was saved to a path of bytes, and loaded: the output")
        missing = place + b"!"
        with assert_refuses(FileNotFoundError, r"\\udcff\\n!", claim="load from a name that is no UTF-8"):
            ll.load(base(), missing)
