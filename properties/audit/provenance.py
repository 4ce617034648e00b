"""How a report came about: command, versions, profile, and which lora_lite was judged."""

import platform
import sys
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from hypothesis import settings

from properties.audit.report import Provenance
from properties.audit.tracing import LIBRARY
from properties.judging.place import IN_A_CHECKOUT

TESTS = Path(__file__).parent.parent
PACKAGES = ("torch", "safetensors", "hypothesis", "pytest", "peft", "transformers", "bitsandbytes", "torchao")


def provenance_of(config: pytest.Config, *, seconds: float, tests: dict[str, int]) -> Provenance:
    """Of the run that this config belongs to."""
    how = settings()
    given = config.getoption("--hypothesis-seed", None)
    seed = (
        "derandomised: the code decides"
        if how.derandomize
        else "random; the example database replays failures"
    )
    return Provenance(
        command=" ".join(
            [
                "pytest",
                *(f"'{arg}'" if " " in arg else arg for arg in map(str, config.invocation_params.args)),
            ]
        ),
        versions=versions(),
        profile="ci" if how.derandomize else config.getoption("--hypothesis-profile", None) or "dev",
        examples=how.max_examples,
        seed=str(given) if given is not None else seed,
        seconds=round(seconds, 1),
        tests=tests,
        injected=config.getoption("--mutant"),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        source=fingerprint(),
        narrowed=", ".join(narrowing(config)),
    )


def narrowing(config: pytest.Config) -> list[str]:
    """What the run was given that leaves tests out, the matrix of mutants aside."""
    option = config.option
    found = [
        f"{name} {value!r}" for name, value in (("-k", option.keyword), ("-m", option.markexpr)) if value
    ]
    found = [given for given in found if given != "-m 'not mutation'"]
    found += [f"--variant {name}" for name in option.variant or ()]
    found += [f"--mutant {option.mutant}"] if option.mutant else []
    found += [
        name
        for name, on in (("--deselect", option.deselect), ("--ignore", option.ignore), ("-x", option.maxfail))
        if on
    ]
    found += ["--last-failed"] if getattr(option, "lf", False) else []
    start = config.invocation_params.dir
    whole = {"properties"} if option.pyargs else set()
    # Of an installed suite the claims are all that there is.
    everything = TESTS if IN_A_CHECKOUT else TESTS / "claims"
    if not any(arg in whole or everything.is_relative_to((start / arg).resolve()) for arg in config.args):
        found.append(f"the paths {' '.join(config.args)}")
    return found


def versions() -> dict[str, str]:
    """Of the interpreter, and of every package whose behaviour is measured."""
    found = {"python": platform.python_version(), "platform": f"{sys.platform} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def fingerprint() -> str:
    """Which lora_lite was judged, whether committed or not."""
    digest = sha256()
    for path in sorted(LIBRARY.rglob("*.py")):
        digest.update(path.relative_to(LIBRARY).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
