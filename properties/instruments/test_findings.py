"""Every finding is still there in the pinned versions, and says what a maintainer needs to know of it."""

import ast
import fnmatch
import runpy
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from properties.audit import explained
from properties.judging.claim import load_claims_of_any

pytestmark = pytest.mark.instruments

FOLDER = Path(__file__).parents[1] / "findings"
FINDINGS = sorted(path.name for path in FOLDER.glob("*.py"))
LIBRARIES = {"peft", "lycoris", "litgpt", "loralib", "lora_pytorch"}


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_is_still_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1. With 0 it is gone in this version: then the script goes, and the list says since when."""
    library = name_of_library(name)
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed: .ci/run installs it")
    monkeypatch.setattr(sys, "argv", [name])
    warnings.simplefilter("ignore")
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / name), run_name="__main__")
    assert ended.value.code == 1, f"{name}: the fault is gone"


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_stands_alone(name: str) -> None:
    """At most 25 lines, and nothing but torch and the library is imported."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 25
    imported = {
        module.partition(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert imported <= {"torch", name_of_library(name)}
    told = ast.get_docstring(ast.parse(text)) or ""
    sized = " ".join(told.split())
    assert all(f"\n{word}: " in told for word in ("Claim", "Measured", "Documented", "Fix"))
    assert "torch 2.13.0). Silent" in sized or "torch 2.13.0). Loud" in sized


def test_the_list_has_every_finding() -> None:
    told = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in FINDINGS if f"`{name.removesuffix('.py')}`" not in told] == []


def name_of_library(name: str) -> str:
    """A finding's name begins with it."""
    return next(library for library in LIBRARIES if name.startswith(f"{library}_"))


def test_what_explains_a_cell_is_there() -> None:
    """Each finding, and each claim that a line names or has a star for."""
    known = {*(name.removesuffix(".py") for name in FINDINGS), explained.DOCUMENTED}
    lines = explained.explained()
    assert len(lines) > 50
    assert {line.finding for line in lines} <= known
    claims = [(line, claim) for line in lines for claim in line.claims]
    assert not [claim for _, claim in claims if not fnmatch.filter(load_claims_of_any(), claim)]


def test_a_cell_without_a_finding_is_told() -> None:
    outcomes = [
        {"method": "peft:hra+apply_GS=True", "claim": "a_fresh_adapter_is_finite", "state": "broken"},
        {"method": "peft:hra", "claim": "a_fresh_adapter_is_finite", "state": "crashed"},
        {"method": "peft:hra", "claim": "every_entry_matters", "state": "held"},
    ]
    table = {"rows": [{"method": o["method"], "outcomes": [o]} for o in outcomes]}
    assert explained.unexplained(table) == [outcomes[1]]
