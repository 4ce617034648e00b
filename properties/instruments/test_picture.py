"""README's picture: what is counted, and that it is legible in light and dark."""

import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from properties.audit.picture import Cell, drawn, main, picture_of

pytestmark = pytest.mark.instruments


def field(method: str, package: str, **states: str) -> dict[str, Any]:
    outcomes = [{"claim": claim, "state": state} for claim, state in states.items()]
    return {
        "versions": {package: "1.0"},
        "claims": [*states],
        "rows": [{"method": method, "outcomes": outcomes}],
    }


def two_libraries() -> list[dict[str, Any]]:
    return [
        field("peft:lora", "peft", it_holds="held", it_merges="broken", it_saves="crashed"),
        field("peft:oft", "peft", it_holds="held", it_merges="held", it_saves="broken"),
        field("loralib:Linear", "loralib", it_holds="held", it_merges="held", it_saves="not applicable"),
    ]


def test_a_cell_counts_methods() -> None:
    picture = picture_of(two_libraries())
    assert [(c.library, c.version, c.methods) for c in picture.columns] == [
        ("peft", "1.0", 2),
        ("loralib", "1.0", 1),
    ]
    assert picture.rows == {"it_saves": [Cell(2, 2), Cell(0, 0)], "it_merges": [Cell(2, 1), Cell(1, 0)]}
    assert (picture.claims, picture.broken) == (3, 2)
    assert [*picture_of(two_libraries(), rows=1).rows] == ["it_saves"]


def test_the_picture_is_one_svg_that_knows_the_dark() -> None:
    """Nothing from elsewhere; no text smaller than 12 pixels at the width of a page."""
    svg = drawn(picture_of(two_libraries()))
    root = ElementTree.fromstring(svg)
    said = " ".join(root.itertext())
    assert "2 of 3 claims break" in said
    assert "it merges" in said
    assert "prefers-color-scheme: dark" in svg
    assert root.get("width") == "800"
    assert min(float(size) for size in re.findall(r"([\d.]+)px", svg)) >= 12
    assert "href" not in svg


def test_what_is_no_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """One method twice, and a file that is something else: exit code 2, and nothing written."""
    twice, other = tmp_path / "twice.json", tmp_path / "other.json"
    twice.write_text(json.dumps(two_libraries()[0]))
    other.write_text("[]")
    for files in ([twice, twice], [other]):
        into = tmp_path / "picture.svg"
        monkeypatch.setattr(sys, "argv", ["picture", *map(str, files), "--into", str(into)])
        with pytest.raises(SystemExit, match="2"):
            main()
        assert "Wanted subjects.json of pytest --subject" in capsys.readouterr().err
        assert not into.exists()
