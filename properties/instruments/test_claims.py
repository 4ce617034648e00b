"""Claims are what they say they are: those that judge any library look into none, imports run one way, and no
file takes long to read.
"""

import ast
import dis
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

import lora_lite as ll
from lora_lite.linear import read_weight
from properties.judging.claim import load_claims
from properties.subjects import subject

pytestmark = pytest.mark.instruments

ROOT = Path(__file__).parents[2]
LONGEST = 300
# What each room may import of the house. The others may import anything.
MAY = {
    "claims": ("judging", "subjects", "oracles", "probe"),
    "judging": ("judging", "subjects", "oracles"),
    "probe": ("probe", "judging", "subjects", "oracles"),
    "subjects": ("subjects",),
    "oracles": ("oracles",),
    "mutation": ("mutation", "judging", "subjects", "oracles"),
    "abroad": ("abroad", "mutation", "judging", "subjects", "oracles"),
    "regressions": ("regressions", "mutation", "judging", "subjects", "oracles"),
}


# What a claim looks into.


def uses_of_lora_lite(check: Callable[..., Any]) -> list[str]:
    """Where the check, and what it reaches in its own module, uses lora_lite: "function: name"."""
    return [
        f"{function.__qualname__}: {name}"
        for function in reached(check)
        for name, value in named_by(function)
        if is_of_lora_lite(value)
    ]


def reached(check: Callable[..., Any]) -> list[FunctionType]:
    """The check and the functions and methods of its own module whose names its code reads, and theirs."""
    found: list[FunctionType] = []
    left = list(functions_of(check))
    while left:
        function = left.pop()
        if function not in found:
            found.append(function)
            for _, value in named_by(function):
                if getattr(value, "__module__", None) == function.__module__:
                    left += functions_of(value)
    return found


def functions_of(value: Any) -> Iterator[FunctionType]:
    """The plain function under decorators; of a class its methods."""
    if isinstance(value, type):
        for held in vars(value).values():
            yield from functions_of(getattr(held, "fget", getattr(held, "func", held)))
    elif isinstance(plain := inspect.unwrap(getattr(value, "__func__", value)), FunctionType):
        yield plain


def named_by(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The globals and the modules that its code names, with what they are."""
    for name, imported in names_in(function.__code__):
        if imported:
            yield name, ModuleType(name)
        elif name in function.__globals__:
            yield name, function.__globals__[name]


def names_in(code: CodeType) -> Iterator[tuple[str, bool]]:
    """What is named in it and in the code inside of it, and whether it is a module that is imported there."""
    imported = {step.argval for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME"}
    for name in code.co_names:
        yield name, name in imported
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from names_in(inner)


def is_of_lora_lite(value: Any) -> bool:
    """It, a module of it, or something that is defined there."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return str(name).partition(".")[0] == ll.__name__


def test_a_claim_about_any_library_looks_into_none() -> None:
    """It goes through the subject alone; what is about lora_lite's own interface says so."""
    used = {
        claim.name: uses
        for claim in load_claims().values()
        if claim.subject is None and (uses := uses_of_lora_lite(claim.check))
    }
    assert not used, f"declare subject='lora_lite', or go through the subject: {used}"


def by_module(model: Any) -> None:
    ll.merge(model)


def by_name(model: Any) -> None:
    [read_weight(layer) for layer in model]


def by_import(model: Any) -> None:
    from lora_lite import checkpoint

    checkpoint.save(model, "here")


class ByMethod:
    @property
    def handle(self) -> Any:
        return ll.adapters_of(self)  # type: ignore[arg-type]


def by_helper(model: Any) -> Any:
    return by_helpers_class()


def by_helpers_class() -> Any:
    return ByMethod().handle


def by_subject(model: Any) -> None:
    subject.merge(model)


@pytest.mark.parametrize(
    ("check", "where"),
    [
        (by_module, "by_module: ll"),
        (by_name, "by_name: read_weight"),
        (by_import, "by_import: lora_lite"),
        (by_helper, "ByMethod.handle: ll"),
    ],
)
def test_what_looks_into_lora_lite_is_seen(check: Callable[..., Any], where: str) -> None:
    assert uses_of_lora_lite(check) == [where]


def test_the_subject_is_no_look_into_lora_lite() -> None:
    assert uses_of_lora_lite(by_subject) == []


# What imports what.


def imports_of(source: str) -> set[str]:
    """The modules that a file imports, wherever in it; `from a import b` is a, and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def is_under(module: str, *packages: str) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def forbidden(place: str, source: str) -> list[str]:
    """What a file of this place, "properties/claims/test_it.py", must not import and does."""
    package, *rest = place.split("/")
    imported = imports_of(source)
    if package == "lora_lite":
        return sorted(m for m in imported if is_under(m, "strategies", "properties"))
    if package == "strategies":
        return sorted(m for m in imported if is_under(m, "properties"))
    room = rest[0]
    tests = ("properties.claims.test_", "properties.instruments.test_")
    wrong = {m for m in imported if m.startswith(tests)}
    # The one file of claims/ that declares none replays fixtures.
    if room in MAY and (room != "claims" or "properties.judging.claim.claim" in imported):
        may = tuple(f"properties.{name}" for name in MAY[room])
        wrong |= {m for m in imported if is_under(m, "properties") and not is_under(m, *may)}
    if room == "oracles":
        wrong |= {m for m in imported if is_under(m, "lora_lite", "strategies")}
    if room == "audit":
        wrong |= {m for m in imported if is_under(m, "properties.claims")}
    return sorted(wrong - {"properties"})


def sources() -> dict[str, str]:
    """Every module of the house, by its place."""
    packages = ("lora_lite", "strategies", "properties")
    paths = [path for name in packages for path in (ROOT / name).rglob("*.py")]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


OTHER = "properties.claims.test_b"


def test_imports_run_one_way() -> None:
    """claims → judging, subjects, oracles, probe → strategies → lora_lite; no test imports another's file."""
    wrong = {place: found for place, source in sources().items() if (found := forbidden(place, source))}
    assert not wrong, f"these import what is above them: {wrong}"


@pytest.mark.parametrize(
    ("place", "source", "found"),
    [
        ("lora_lite/config.py", "import strategies", "strategies"),
        ("strategies/layers.py", "from properties.subjects import subject", "properties.subjects"),
        ("properties/claims/test_a.py", f"from {OTHER} import x", OTHER),
        ("properties/claims/test_a.py", "from properties.claims import test_b", OTHER),
        ("properties/instruments/test_a.py", f"def f():\n import {OTHER}", OTHER),
        (
            "properties/claims/test_a.py",
            "from properties.judging.claim import claim\nfrom properties.mutation import mutant",
            "properties.mutation",
        ),
        ("properties/judging/a.py", "from properties.regressions import record", "properties.regressions"),
        ("properties/subjects/a.py", "def f():\n import properties.mutation", "properties.mutation"),
        ("properties/subjects/a.py", "import properties.judging", "properties.judging"),
        ("properties/oracles/a.py", "import lora_lite", "lora_lite"),
        ("properties/mutation/a.py", "import properties.audit", "properties.audit"),
        ("properties/mutation/a.py", "import properties.abroad", "properties.abroad"),
        ("properties/audit/a.py", f"def f():\n import {OTHER}", OTHER),
    ],
)
def test_an_import_of_what_is_above_is_seen(place: str, source: str, found: str) -> None:
    assert found in forbidden(place, source)


def test_no_claim_file_is_long() -> None:
    long = {
        place: lines
        for place, source in sources().items()
        if place.startswith("properties/claims/") and (lines := source.count("\n")) > LONGEST
    }
    assert not long, f"split by what a user would ask, at {LONGEST} lines: {long}"
