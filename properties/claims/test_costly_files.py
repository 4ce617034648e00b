"""Files that claim more than they weigh, and files of other versions: refused cheaply, or by name."""

import json
import os
import re
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

import lora_lite as ll
from lora_lite import reading, spec
from lora_lite.config import TRIED
from properties.judging.assertions import assert_holds, assert_refuses
from properties.judging.claim import claim
from properties.judging.files import adapted, base, config_of, refused, rewrite, saved

# What a small file can claim, by the field of its config that holds it.
EXPENSIVE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "patterns that take long to compile": lambda c: c.update(target_names=["(?i)" + "[\0-\uffff]" * 600]),
    "one such, as a bare string": lambda c: c.update(exclude_names="(?i)" + "[\0-\uffff]" * 600),
    "many short ones": lambda c: c.update(target_names=[f"(?i)[\0-\uffff]{i}" for i in range(120)]),
    "a wide list": lambda c: c.update(target_names=[[]] * 200_000),
    "a deep list": lambda c: c.update(target_names=json.loads("[" * 400 + "]" * 400)),
    "a long number": lambda c: c.update(r=10**4000),
    "a rank of a million": lambda c: c.update(r=2**20),
}


@claim(stage="load", subject="lora_lite")
def test_what_a_file_claims_costs_no_more_than_it_weighs() -> None:
    """A few short patterns are compiled, its own bytes read, ten times as many taken in memory."""
    for what, change in EXPENSIVE.items():
        with saved() as path:
            rewrite(path, lambda tensors, header, change=change: change(config_of(header)))  # type: ignore[misc]
            assert_cheaply_refused(path, what)


@claim(stage="load", subject="lora_lite")
def test_a_file_of_holes_is_refused_unread() -> None:
    """Of a tebibyte that takes a few kilobytes: in the tensors, and in a header that is said to be long."""
    for where in ("tensors", "header"):
        with saved() as path:
            whole = path.read_bytes()
            if where == "header":
                path.write_bytes((99_000_000).to_bytes(8, "little") + whole[8:])
                os.truncate(path, 100_000_000)
            else:
                os.truncate(path, 2**40)
            with pytest.MonkeyPatch.context() as patch:
                # As a file system that does not tell how much a file takes.
                patch.setattr(reading, "SMALL", 2**50 if where == "header" else reading.SMALL)
                assert_cheaply_refused(path, f"holes in the {where}")


class Costs:
    """What is counted while a file is loaded: characters of compiled patterns, and bytes that were read."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.compiled = self.read = 0
        compile_pattern = re.compile

        def compiled(pattern: Any, *flags: Any) -> Any:
            self.compiled += len(pattern)
            return compile_pattern(pattern, *flags)

        patch.setattr(re, "compile", compiled)
        opened = lambda *given: CountedFile(open(*given), self)  # noqa: E731, SIM115
        patch.setattr(reading, "open", opened, raising=False)


class CountedFile:
    """A file that tells how many bytes it was asked for."""

    def __init__(self, file: Any, costs: Costs) -> None:
        self._file, self._costs = file, costs

    def read(self, size: int) -> Any:
        self._costs.read += size
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "CountedFile":
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.close()


def assert_cheaply_refused(path: Path, what: str) -> None:
    tracemalloc.start()
    try:
        with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
            warnings.simplefilter("ignore", FutureWarning)
            costs = Costs(patch)
            refused(base(), path, ll.CheckpointError, "", what)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    found = f"{what}: compiled patterns of {costs.compiled} characters, wanted {TRIED} at most"
    assert_holds(costs.compiled <= TRIED, claim=found)
    size = min(path.stat().st_blocks * 512, path.stat().st_size)
    assert_holds(costs.read < size + 2**21, claim=f"{what}: read {costs.read} bytes of a file of {size}")
    assert_holds(most < 10 * size + 2**22, claim=f"{what}: {most} bytes for a file of {size}")


@claim(stage="load", subject="lora_lite")
def test_long_patterns_are_saved_and_loaded_again() -> None:
    """Those that choose the layers by a list of their names, as long as it may be; and attach with them."""
    names = tuple("|".join(["0", *(f"block.{i}.q_proj" for i in range(500))]) for _ in range(3))
    with saved(adapted(ll.LoRAConfig(r=2, target_names=names))) as path:
        (handle,) = ll.load(base(), path)
        assert_holds(handle.config.target_names == names, claim="long patterns came back as others")
        ll.attach(base(), handle.config)
        rewrite(path, lambda tensors, header: config_of(header).update(target_names=["(" * 600]))
        refused(base(), path, ll.CheckpointError, "what it holds is not", "a file with no regular expression")
    wrong = ll.LoRAConfig.from_json({**ll.LoRAConfig().to_json(), "target_names": ["(" * 600]})
    with assert_refuses(ll.ConfigError, "is no regular expression", claim="attach with such a pattern"):
        ll.attach(base(), wrong)


@dataclass(frozen=True, kw_only=True)
class OlderConfig(ll.AdapterConfig):
    variant: ClassVar[str] = "lora"


@dataclass(frozen=True, kw_only=True)
class NewerConfig(ll.AdapterConfig):
    variant: ClassVar[str] = "lora"
    gain: float = ll.option(1.0, values=(1.0, 2.0), wrong=(None,))


@claim(stage="load", subject="lora_lite")
def test_a_file_of_an_older_config_loads_and_of_a_newer_one_says_what_is_unknown() -> None:
    """A setting that was added since has its default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spec.VARIANTS["lora"], "config_class", OlderConfig)
        with saved(adapted(OlderConfig(r=2))) as path:
            patch.setattr(spec.VARIANTS["lora"], "config_class", NewerConfig)
            (handle,) = ll.load(base(), path)
            assert_holds(handle.config == NewerConfig(r=2), claim=f"an older file loads as {handle.config}")
        with saved(adapted(NewerConfig(r=2, gain=2.0))) as path:
            patch.setattr(spec.VARIANTS["lora"], "config_class", OlderConfig)
            match = r"unknown fields \['gain'\].*newer version"
            refused(base(), path, ll.CheckpointError, match, "a file of a newer config")
