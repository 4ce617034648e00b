"""Every block of code in the READMEs runs, and every command in them exists."""

import contextlib
import io
import re
import runpy
import shlex
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lora_lite as ll
from properties.gallery import RECORD, masked, printed
from properties.instruments.own_variant import readme_example

pytestmark = pytest.mark.instruments

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "lora_lite/README.md",
    "properties/README.md",
    "properties/DESIGN.md",
    "CONTRIBUTING.md",
)
# Run word for word by test_readme_head.py, by whoever asks for readme_example(), and below.
ELSEWHERE = ("# my_adapters/", "from transformers import", "def check_forward")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Between fences: of the parts that these cut a page into every second one."""
    parts = [part for page in PAGES for part in re.split(r"^```", text(page), flags=re.MULTILINE)[1::2]]
    return [part.partition("\n")[2] for part in parts if part.partition("\n")[0] == language]


def commands() -> list[list[str]]:
    """The words of each command: on lines of their own, in code blocks after a $, and between backticks."""
    every = "\n".join(map(text, PAGES))
    lines = re.findall(r"^(?:    |\$ )((?:python -m|pytest|pip install).*)$", every, re.MULTILINE)
    inline = re.findall(r"`((?:python -m|pytest) [^`]*)`", every.replace("\n", " "))
    whole = [part.strip() for line in [*lines, *inline] for part in line.split(" && ")]
    return [shlex.split(line, comments=True) for line in whole]


def test_the_examples_of_the_library_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On their own in the order in which they stand, as a reader would paste them."""
    shared: dict[str, Any] = {"torch": torch, "nn": nn, "ll": ll}
    ours = [block for block in blocks("python") if not block.startswith(ELSEWHERE)]
    assert len(ours) >= 2
    monkeypatch.chdir(tmp_path)
    for block in ours:
        exec(block, shared)
    assert {"gain.py", "gain_oracle.py", "conftest.py"} <= readme_example().keys()


def test_the_claim_that_is_shown_is_one_of_the_claims() -> None:
    """Word for word."""
    (shown,) = [block for block in blocks("python") if "@claim(" in block]
    claims = "\n".join(path.read_text("utf-8") for path in (ROOT / "properties/claims").glob("test_*.py"))
    assert shown in claims


def test_the_failure_that_is_shown_is_what_the_suite_says() -> None:
    """But for figures, which are a machine's."""
    shown = [b for b in blocks("") if "--mutant" in b]
    assert shown
    for block in shown:
        (failure,) = [failure for failure in RECORD if f"--mutant {failure.mutant}\n" in block]
        assert masked(printed(failure)) in masked(block)


def test_the_counts_of_findings_are_those_of_the_list() -> None:
    listed = re.findall(
        r"^\| `(\w+)` .*\| (silent|loud) \|$", text("properties/findings/README.md"), re.MULTILINE
    )
    shown = re.findall(r"^\| ([\w-]+) [\d.]+ \| (\d+) \| (\d+) \|", text("README.md"), re.MULTILINE)
    assert len(shown) >= 5
    for library, silent, loud in shown:
        own = [how for name, how in listed if name.startswith(f"{library.lower().replace('-', '_')}_")]
        assert (own.count("silent"), own.count("loud")) == (int(silent), int(loud)), library


def test_links_lead_somewhere() -> None:
    """Files that are there, and headings within them."""
    for page in PAGES:
        for link in re.findall(r"\]\((?!http)([^)]+)\)", text(page)):
            at, _, heading = link.partition("#")
            path = (ROOT / page).parent / at if at else ROOT / page
            assert path.exists(), f"{page}: {link}"
            if heading:
                slugs = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
                assert heading in [re.sub(r"[^\w -]", "", s.lower()).replace(" ", "-") for s in slugs], link


def test_readme_is_short() -> None:
    assert len(text("README.md").splitlines()) <= 200


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_exists(words: list[str], request: pytest.FixtureRequest) -> None:
    """Its module, and each option of ours, as --help says, and of pytest, as its parser knows them."""
    if (words[0] != "pytest" and words[:2] != ["python", "-m"]) or words[2:3] == ["pip"]:
        return
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    if words[0] == "pytest" or words[2] == "pytest":
        known = {
            name for group in request.config._parser._groups for o in group.options for name in o.names()
        }
        known |= {name for o in request.config._parser._anonymous.options for name in o.names()}
        assert set(options) <= known
        return
    module = words[2]
    if not module.startswith("properties"):
        assert find_spec(module), f"there is no module {module}"
        return
    assert set(options) <= set(re.findall(r"--[\w-]+", helped(module, words[3:])))


def program_of(module: str) -> str:
    """The file that `python -m` runs, since run_module wants a loader that has code, and pytest's has not."""
    spec = find_spec(module)
    assert spec, f"there is no module {module}"
    if spec.submodule_search_locations:
        spec = find_spec(f"{module}.__main__")
    assert spec, f"{module} is no program"
    assert spec.origin
    return spec.origin


def helped(module: str, words: list[str]) -> str:
    """What --help of the module says; with the subcommand where the words begin with one."""
    found = ""
    for more in ([], words[:1]):
        out, argv = io.StringIO(), sys.argv
        sys.argv = [module, *[word for word in more if not word.startswith("-")], "--help"]
        try:
            # A program sets filters of its own, which are not the next one's.
            with (
                contextlib.suppress(SystemExit),
                contextlib.redirect_stdout(out),
                warnings.catch_warnings(action="ignore"),
            ):
                runpy.run_path(program_of(module), run_name="__main__")
        finally:
            sys.argv = argv
        found += out.getvalue()
    return found
