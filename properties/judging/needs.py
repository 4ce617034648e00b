"""What a method, or the machine, must offer for a claim to be judged: by nature it has it or not, or it lacks
it.

A need that is not met by nature makes the claim not applicable; one that is lacking makes it not judged, with
the remedy.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch.distributed as dist

import lora_lite as ll
from properties.judging import blanks
from properties.judging.docstrings import told_of
from properties.judging.peft_layers import NO_PEER, PEFT
from properties.oracles import ORACLES
from properties.subjects.pretrained import PACKAGE as MINILM
from strategies.options import build_config, own_options, simplest
from strategies.quantised import calibrates_in_place
from strategies.tensors import device

Variant = type[ll.Variant]


@dataclass(frozen=True)
class Standing:
    """Whether a claim is judged of a method. state: None where it is, else not applicable or not judged."""

    state: str | None
    why: str = ""


@dataclass(frozen=True)
class Need:
    """Of a method. missing: why it does not offer it, and the remedy; None where it does.

    by_nature: whether a claim that needs it says nothing about a method without it.
    """

    missing: Callable[[Variant], str | None]
    by_nature: bool


def _nature(has: Callable[[Variant], bool], why: str) -> Need:
    return Need(lambda variant: None if has(variant) else f"{variant.name} {why}", by_nature=True)


def _lack(missing: Callable[[Variant], str | None]) -> Need:
    return Need(missing, by_nature=False)


def _package(module: str, install: str) -> Callable[[], str | None]:
    why = f"{module.replace('_', '-')} is not installed: pip install {install}"
    return lambda: None if _installed(module) else why


@cache
def _installed(module: str) -> bool:
    return find_spec(module) is not None


def has_oracle(variant: Variant) -> bool:
    """Whether there is a float64 formula to compare with."""
    return variant.name in ORACLES


def says_what_trains(variant: Variant) -> bool:
    """Whether its oracle tells which tensors the paper trains."""
    return has_oracle(variant) and ORACLES[variant.name].trained is not None


def starts_as_the_base(variant: Variant) -> bool:
    """Whether a fresh adapter changes nothing, with any of its settings."""
    usual = simplest(variant.name)
    others = [(name, value) for name, values in own_options(variant.name).items() for value in values]
    configs = (build_config(variant.name, (*usual, *other)) for other in ((), *((one,) for one in others)))
    return any(variant.identity(config) != "none" for config in configs)


def takes_data(variant: Variant) -> bool:
    """Whether its init looks at calibration data."""
    return variant.calibrator.__func__ is not ll.Variant.calibrator.__func__  # type: ignore[attr-defined]


def _no_oracle(variant: Variant) -> str | None:
    if left := blanks.of_the_oracle(variant):
        return f"its oracle is not written yet: {left[0]}"
    if has_oracle(variant):
        return None
    return f"no oracle: write its formula in float64 and put it into ORACLES[{variant.name!r}]"


def _no_word(variant: Variant) -> str | None:
    if (found := _no_oracle(variant)) is not None or says_what_trains(variant):
        return found
    return "its oracle does not say which tensors the paper trains: Oracle(…, trained=frozenset({…}))"


def _no_peer(variant: Variant) -> str | None:
    return None if variant.name in PEFT else NO_PEER.get(variant.name, f"peft has no {variant.name}")


def _no_processes() -> str | None:
    return None if dist.is_available() else "this torch was built without torch.distributed"


def _no_posix() -> str | None:
    found = os.name == "posix" and hasattr(os, "fork")
    return None if found else f"{os.name} has no fork, pipes, umask and limits of file size: run it on Linux"


@cache
def _no_attributes() -> str | None:
    with tempfile.NamedTemporaryFile() as file:
        try:
            os.setxattr(file.name, "user.note", b"")
        except (AttributeError, OSError) as error:
            return f"temporary files take no extended attributes here ({error}): set TMPDIR"
    return None


def _no_compiler() -> str | None:
    wanted = os.environ.get("CXX", "g++")
    found = shutil.which(wanted) or shutil.which("clang++")
    return None if found else f"torch.compile needs a C++ compiler: found no {wanted}"


# Of a method.
NEEDS: dict[str, Need] = {
    "oracle": _lack(_no_oracle),
    "what is trained": _lack(_no_word),
    "laws": _nature(lambda variant: bool(variant.laws), "declares no laws"),
    "peer": Need(_no_peer, by_nature=True),
    "rank": _nature(lambda variant: "r" not in variant.config_class.unused, "has no rank"),
    "adapted input": _nature(
        lambda variant: variant.adapt_input is not ll.Variant.adapt_input,
        "leaves alone what the base layer is given",
    ),
    "unused setting": _nature(
        lambda variant: bool(variant.config_class.unused), "has every setting that all configs have"
    ),
    "identity": _nature(starts_as_the_base, "is no identity at init, as it declares"),
    "no identity": _nature(lambda variant: not starts_as_the_base(variant), "is an identity at init"),
    "told tensors": _nature(
        lambda variant: bool(told_of(variant)), "has no table of tensors in its class docstring"
    ),
    "no data": _nature(lambda variant: not variant.needs_calibration, "cannot start without data"),
    "calibration": _nature(takes_data, "looks at no data"),
    "no calibration": _nature(lambda variant: not takes_data(variant), "looks at data"),
    "optional calibration": _nature(
        lambda variant: takes_data(variant) and not variant.needs_calibration,
        "has no choice to start from data",
    ),
    "shared ranks": _nature(
        lambda variant: "rho" in variant.config_class.__dataclass_fields__, "hands out no ranks"
    ),
    "data after quantising": _nature(
        lambda variant: not variant.needs_calibration or calibrates_in_place(device()),
        "is calibrated in eval mode, where bitsandbytes repacks its four bits on the CPU for good",
    ),
}

# Other packages: to import one takes longer than to judge.
ALIKE = ("peft", "bitsandbytes", "torchao", "transformers", "accelerate")
PACKAGES = {name: _package(name, name) for name in ALIKE}
PACKAGES["minilm"] = _package(MINILM, MINILM.replace("_", "-"))

# Of the machine, the same for every method: why it does not offer it, and the remedy; None where it does.
MACHINE: dict[str, Callable[[], str | None]] = {
    "compiler": _no_compiler,
    "processes": _no_processes,
    "posix": _no_posix,
    "extended attributes": _no_attributes,
    **PACKAGES,
}


def unmet(needs: Iterable[str], variant: Variant | None) -> Iterator[tuple[bool, str]]:
    """Of each need that is not met, whether that is so by nature, and why.

    variant: None for the library as a whole, which can need something of the machine alone.
    """
    for name in needs:
        if name in MACHINE:
            by_nature, why = False, MACHINE[name]()
        elif variant is None:
            raise ValueError(f"a claim about the library as a whole needs {name} of a method")
        else:
            by_nature, why = NEEDS[name].by_nature, NEEDS[name].missing(variant)
        if why is not None:
            yield by_nature, why
