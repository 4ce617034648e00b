"""How a report came about: command, versions, profile, and which lora_lite was judged."""

import platform
import sys
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

import lora_lite as ll
from properties.audit.report import Provenance, Shard
from properties.audit.tracing import LIBRARY
from properties.judging.place import IN_A_CHECKOUT
from properties.subjects.living import asked_methods, judged_methods, library

TESTS = Path(__file__).parent.parent
PACKAGES = ("torch", "safetensors", "hypothesis", "pytest", "peft", "transformers", "bitsandbytes", "torchao")
NOT_INSTALLED = "not installed"


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
        repeats=given is not None or how.derandomize,
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
    return found | {package: version_of(package) for package in PACKAGES}


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED


def fingerprint(root: Path = LIBRARY) -> str:
    """Which lora_lite was judged, or which suite judged it, whether committed or not."""
    digest = sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def shard_of(config: pytest.Config, provenance: Provenance) -> Shard:
    """What a merge has to know of this run."""
    subjects = config.getoption("--subject") or []
    own = "lora_lite" in (subjects or ["lora_lite"])
    wanted = config.getoption("--variant") or [*ll.VARIANTS]
    packages = {library(name).package for name in subjects} - {*provenance.versions}
    versions = provenance.versions | {package: version_of(package) for package in sorted(packages)}
    return Shard(
        uuid4().hex,
        replace(provenance, versions=versions),
        list(subjects),
        config.getoption("--part") or "",
        asked_methods(config),
        judged_methods(config),
        [name for name in ll.VARIANTS if own and name in wanted],
        fingerprint(TESTS),
    )
