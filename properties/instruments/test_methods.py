"""The reference table is what oracles and bindings say today, and nothing in it is written by hand."""

import re
from pathlib import Path

import pytest

from properties.audit.methods import page, shapes
from properties.audit.methods.entries import contents
from properties.audit.methods.following import follower
from properties.oracles import ORACLES
from properties.oracles.field import FORMULAS
from properties.subjects.bindings import BINDINGS
from properties.subjects.living import LIBRARIES, library, methods_of

pytestmark = pytest.mark.instruments

AGAIN = "python -m properties.audit methods"
# One of each library, of which the table is built anew.
SAMPLE = (
    "lora_lite:dora",
    "peft:vera",
    "lycoris:loha",
    "litgpt:adapter_v2",
    "loralib:lora",
    "lora_pytorch:lora",
)


@pytest.fixture(scope="module")
def installed() -> None:
    if missing := [name for name in LIBRARIES if library(name).missing()]:
        pytest.skip(
            f"not judged: {', '.join(missing)} not installed: pip install --no-deps -r .ci/subjects.txt"
        )


@pytest.mark.usefixtures("installed")
def test_the_table_is_up_to_date() -> None:
    """Headers of oracles, bindings, and every setting of every method that is installed."""
    _, made_of, _ = page.read()
    assert made_of == page.of_contents(contents()), f"the table is of another day: {AGAIN}"


def test_nothing_in_the_table_is_written_by_hand() -> None:
    text, _, digest = page.read()
    assert digest == page.of_text(text), f"the table was changed by hand: {AGAIN}"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("method", SAMPLE)
def test_the_table_says_what_is_found_now(method: str) -> None:
    """Shapes, numbers, init and what each setting sets."""
    text, *_ = page.read()
    assert page.tidy(page.block(follower(method))) in text, f"{method} is another one: {AGAIN}"


@pytest.mark.usefixtures("installed")
def test_every_formula_and_every_method_is_in_the_table() -> None:
    text, *_ = page.read()
    assert {*FORMULAS, *ORACLES} == {*re.findall(r"^## (\S+)$", text, re.MULTILINE)}
    shown = {*re.findall(r"^### (\S+)$", text, re.MULTILINE)}
    assert {*BINDINGS} <= shown
    families = {m.partition("+")[0] for name in LIBRARIES for m in methods_of(name)}
    told = {f"{name}:{method}" for name, methods in contents().without.items() for method in methods}
    assert families <= shown | told


def test_a_change_by_hand_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "methods.md"
    path.write_text(page.PAGE.read_text().replace("LoHa", "LoHA", 1))
    text, _, digest = page.read(path)
    assert digest != page.of_text(text)
    path.write_text("# Methods\n")
    with pytest.raises(
        ValueError, match=r"found no digests in its last line. Write it: python -m properties.audit"
    ):
        page.read(path)


@pytest.mark.parametrize(
    ("sizes", "known", "told"),
    [
        (
            [(8, 2), (8, 4)],
            [{"d_out": 8, "d_in": 12, "r": 2}, {"d_out": 8, "d_in": 12, "r": 4}],
            "(d_out, r)",
        ),
        ([(6,), (12,)], [{"d_in": 12, "b": 2}, {"d_in": 24, "b": 2}], "(d_in / b,)"),
        ([(1,), (6,)], [{"d_in": 12, "b": 2}, {"d_in": 12, "b": 4}], "(b (b - 1) / 2,)"),
        ([(1, 13)], [{"d_in": 12, "r": 1}], "(1, d_in + 1)"),
        ([(5,), (7,)], [{"d_in": 12, "r": 1}, {"d_in": 24, "r": 1}], "(5,)"),
        ([(5,), (5, 1)], [{"d_in": 12}, {"d_in": 24}], "of several ranks"),
    ],
)
def test_a_shape_is_told_in_symbols(
    sizes: list[tuple[int, ...]], known: list[dict[str, int]], told: str
) -> None:
    """What fits every case; a size that nothing gives is a number."""
    whole = [{"d_out": 97, "d_in": 89, **one} for one in known]
    assert shapes.told(sizes, whole) == told


def test_a_library_that_is_missing_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(library("loralib")), "missing", lambda self: "loralib is not installed")
    assert follower("loralib:lora").why == "not judged: loralib is not installed"
    assert "loralib is not installed" in page.block(follower("loralib:lora"))
    assert contents().versions["loralib"] == "loralib is not installed"
