"""python -m properties.fuzz.__main__: many thousand damaged files through load, and what that took.

Counts outcomes by error class, the slowest input and the one that took the most memory, and stops at the
first input on which load does anything but refuse with a LoraLiteError or give back what was saved.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from torch import nn

import lora_lite as ll
from properties.judging.files import declare_keys, outcome
from properties.subjects import subject
from properties.subjects.attaching import attach
from strategies import AdaptedLayer, DamagedFile, LinearRecipe, damaged_files
from strategies.options import ranks

BATCH = 1000  # examples that one run of Hypothesis remembers, so as not to try them twice


@dataclass
class Figures:
    """What is reported.

    Seconds are the processor's; memory is how far the process grew over what it held before the input.
    """

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[int, str] = (0, "")
    began: float = field(default_factory=time.process_time)

    def note(self, found: str, seconds: float, memory: int, what: str) -> None:
        """One more input, what came of it and what it took."""
        self.slowest = max(self.slowest, (seconds, what))
        self.largest = max(self.largest, (memory, what))
        self.outcomes[found] += 1
        self.inputs += 1

    def __str__(self) -> str:
        seconds = time.process_time() - self.began
        told = {"loaded": "loaded: unharmed, or forged with a digest that is right"}
        found = "\n".join(
            f"  {count:8,} {told.get(name, name)}" for name, count in self.outcomes.most_common()
        )
        return (
            f"{self.inputs:,} inputs in {seconds:.0f} s of processor time"
            f" ({self.inputs / max(seconds, 1e-9):.0f}/s)\n{found}"
            f"\nslowest load {self.slowest[0] * 1000:.0f} ms, of {self.slowest[1]}"
            f"\nmost memory {self.largest[0] / 2**20:.1f} MiB more than before the input, of"
            f" {self.largest[1]}"
        )


def case_of(variant: str) -> AdaptedLayer:
    """A small trained adapter with a bias and alpha beside its rank."""
    rank = next((r for r in ranks(variant, 4, 4, ()) if r is not None and r > 1), None)
    alpha = () if "alpha" in ll.VARIANTS[variant].config_class.unused else (("alpha", 3.0),)
    options = alpha if rank is None else (("r", rank), *alpha)
    needed = ll.VARIANTS[variant].needs_calibration
    return AdaptedLayer(variant, LinearRecipe(4, 4, bias=True), options, trained=True, calibrated=needed)


@cache
def saved(variant: str) -> tuple[bytes, dict[str, dict[str, torch.Tensor]], nn.Module]:
    """A valid file, what it holds, and a base to load it onto."""
    made = attach(case_of(variant))
    with tempfile.TemporaryDirectory() as folder:
        subject.save(made.model, path := Path(folder) / "a")
        return path.read_bytes(), subject.tensors(made.model), case_of(variant).build()


def peak() -> int:
    """The most memory that the process held since forget_peak()."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def forget_peak() -> int:
    """Start a new peak, at what the process holds now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak()


def attempt(file: DamagedFile, path: Path, figures: Figures) -> None:
    """Put one damaged file through load. Raises Violation where load does not do as it should."""
    whole, written, model = saved(file.case.variant)
    file.lay(path, whole)
    held, began = forget_peak(), time.process_time()
    found = outcome(model, path, None if file.forged else written)
    what = f"{file.case.variant}{', forged' if file.forged else ''}: {file.edits}"
    figures.note(found, time.process_time() - began, peak() - held, what)


def inputs(variants: list[str]) -> st.SearchStrategy[DamagedFile]:
    """Damaged files of every variant."""
    return st.one_of([damaged_files(variant, cases=st.just(case_of(variant))) for variant in variants])


def by_hypothesis(wanted: int, first_seed: int, path: Path, figures: Figures) -> None:
    """Batches of random inputs, each from a seed of its own."""
    how = settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    batch = 0
    while figures.inputs < wanted:
        check = given(inputs(list(ll.VARIANTS)))(lambda file: attempt(file, path, figures))
        seed(first_seed + batch)(how(check))()
        batch += 1


def by_atheris(wanted: int, first_seed: int, path: Path, figures: Figures) -> None:
    """Inputs that the coverage of lora_lite and json leads to.

    Does not return: libFuzzer ends the process.
    """
    import json.decoder

    import atheris  # type: ignore[import-untyped]

    from lora_lite import checkpoint, config

    for module in (checkpoint, config, json.decoder):
        for owner in (module, *(kind for kind in vars(module).values() if isinstance(kind, type))):
            for function in vars(owner).values():
                if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                    atheris.instrument_func(function)
    check = given(inputs(list(ll.VARIANTS)))(lambda file: attempt(file, path, figures))
    fuzz_one: Any = settings(database=None, deadline=None)(check).hypothesis.fuzz_one_input  # type: ignore[attr-defined]

    def one(data: bytes) -> None:
        fuzz_one(data)
        if figures.inputs >= wanted:
            print(figures, flush=True)
            path.unlink()
            os._exit(0)  # libFuzzer takes any other end for a crash

    options = [
        f"-seed={first_seed + 1}",
        "-max_len=256",
        "-verbosity=0",
        "-detect_leaks=0",
        f"-artifact_prefix={path}.",
    ]
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


def a_million_keys() -> str:
    """What load makes of one file whose header declares a million tensors."""
    whole, _, model = saved("lora")
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "a").write_bytes(whole)
        declare_keys(path, 10**6)
        held, began = forget_peak(), time.process_time()
        found = outcome(model, path, None)
        seconds, memory, size = time.process_time() - began, peak() - held, path.stat().st_size
    took = f"after {seconds:.1f} s and {memory / 2**20:.0f} MiB"
    return f"apart from these, one file with a million keys, {size / 2**20:.0f} MiB: {found} {took}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m properties.fuzz", description=__doc__)
    parser.add_argument(
        "--inputs", type=int, default=100_000, help="how many damaged files (default 100,000)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first batch; each later batch has the next one"
    )
    parser.add_argument(
        "--atheris", action="store_true", help="guided by coverage; needs atheris: pip install '.[fuzz]'"
    )
    arguments = parser.parse_args()
    if arguments.inputs < 1:
        parser.error(f"--inputs: found {arguments.inputs}, wanted 1 or more")
    if arguments.atheris and find_spec("atheris") is None:
        parser.error("--atheris: atheris is not installed. Run pip install '.[fuzz]'")
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    memory = Path("/dev/shm")
    with tempfile.NamedTemporaryFile(
        dir=memory if memory.is_dir() else None, suffix=".safetensors", delete=False
    ) as file:
        path = Path(file.name)
    figures = Figures()
    search = by_atheris if arguments.atheris else by_hypothesis
    try:
        search(arguments.inputs, arguments.seed, path, figures)
    finally:
        path.unlink(missing_ok=True)
    print(figures)
    print(a_million_keys())


if __name__ == "__main__":
    main()
