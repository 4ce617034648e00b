"""The page in a browser: nothing overflows, everything is legible in light and dark, nothing is asked of the
network.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from properties.audit.evidence import Evidence, Matrix, Speed
from properties.audit.judge import judge
from properties.audit.render import page, write
from properties.audit.report import Report, SpeedSource, SuiteFailure
from properties.audit.sight import MatrixSource
from properties.instruments.sample_audit import PORTRAIT, PROVENANCE, audit, run
from properties.judging.claim import load_claims
from properties.judging.outcome import HELD, Outcome
from properties.mutation.matrix import Cell, Row
from properties.probe.record import Record, to_json

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)

pytestmark = [
    pytest.mark.instruments,
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="no chromium on PATH: install it (apt-get install chromium) to judge the page",
    ),
]


# Of the loss, in the training probe: the first fails.
DROPS = {"hra": 0.25, "antipasto": 0.75}


def cells(mutant: str) -> Iterator[Cell]:
    """A row of the matrix with every outcome in it; the matrix itself has its own tests."""
    outcomes = ("killed", "survived", "unreached", "crashed", "survived")
    for i, claim in enumerate(load_claims()):
        outcome = outcomes[(i + len(mutant)) % len(outcomes)]
        signal = {"float32": 3.0 + i} if outcome == "killed" and i % 2 else {}
        yield Cell(
            claim,
            mutant,
            "lora",
            outcome,
            3,
            0.1,
            "AdaptedLayer(variant='lora', " + "d_in=1, " * 40 + ")",
            signal,
        )


def speed_rows() -> list[dict[str, Any]]:
    """Of two variants at three widths, ours and peft's."""
    size = {
        "r": 16,
        "tokens": 512,
        "dtype": "float32",
        "threads": 1,
        "phase": "forward",
        "samples": 20,
        "dropped": 1,
    }
    return [
        {
            **size,
            "variant": name,
            "implementation": by,
            "d": d,
            "ratio": ratio,
            "q1": 0.9 * ratio,
            "q3": 1.1 * ratio,
        }
        for name in ("hra", "antipasto")
        for by in ("lora_lite", "peft")
        for d, ratio in ((256, 1.9), (512, 1.5), (1024, 1.2))
    ]


def everything() -> Report:
    """A report with something in each of its parts: a red variant, a green one, one without reference, and
    every table.
    """
    claims = [*PORTRAIT, "forward_agrees_with_the_oracle", "merged_layer_agrees_with_the_oracle"]
    found, tracer = run(["hra", "antipasto"], claims, mutant="hra_reflections_in_reverse")
    found.rows = [
        Row(name, list(cells(name)))
        for name in ("ia3_gate_twice", "lora_scale_lost", "save_rounds_to_bfloat16")
    ]
    found.matrix = Matrix(found.rows, MatrixSource("", "", True))
    figures = [
        Record("learning beats noise: random steps", v, "tiny", drop, ">", 0.5, "")
        for v, drop in DROPS.items()
    ]
    probe = {"probe": to_json(figures)}
    found.outcomes.append(Outcome("training_on_minilm", "hra", "training", HELD, shown=probe))
    found.speed = Speed(speed_rows(), SpeedSource("speed.json", "2026-01-01", {"device": "cpu"}))
    found.skipped = {"test_peft.py::test_agrees_with_peft[hra]": "Skipped: peft is not installed"}
    found.failures.append(
        SuiteFailure("properties/test_page.py::test_the_page_prints", "no browser", "pytest")
    )
    return judge(
        found, tracer, replace(PROVENANCE, injected="hra_reflections_in_reverse"), ["hra", "antipasto"]
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield started
        started.close()


@pytest.fixture(scope="module")
def report_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(everything(), tmp_path_factory.mktemp("audit"))[0]


# Text nodes whose colour and background, through all ancestors, are too near to each other (WCAG 2.2, 1.4.3).
FAINT = (Path(__file__).parent / "faint.js").read_text("utf-8")

# Elements that stick out of the page and lie in no container that scrolls.
OVERFLOW = (Path(__file__).parent / "overflow.js").read_text("utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 800, 360], ids=["desktop", "window", "phone"])
def test_the_page_is_legible(browser: Any, report_page: Path, width: int, scheme: str) -> None:
    """With every fold open: no overflow, contrast of 4.5 and more, no word on the console, nothing
    fetched, and nothing that axe objects to.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(report_page.as_uri())
    # A panel in the page, and not above it, so that what lies behind it is the page.
    opened.evaluate("document.querySelectorAll('[popover]').forEach(e => e.removeAttribute('popover'))")
    opened.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    overflow, faint = opened.evaluate(OVERFLOW), opened.evaluate(FAINT)
    dark = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    # What it looks at beside contrast is the same in the dark.
    objections = Axe().run(opened).generate_report() if scheme == "light" else "Found 0 "
    context.close()
    assert overflow == []
    assert objections.startswith("Found 0 "), objections
    assert faint["found"] == []
    assert faint["seen"] > 500
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert (dark == "rgb(20, 23, 26)") == (scheme == "dark")


@pytest.mark.parametrize("width", [1400, 360], ids=["desktop", "phone"])
def test_a_cell_of_the_summary_tells_its_claims(browser: Any, report_page: Path, width: int) -> None:
    """By keyboard alone: the claim that failed, its recipe and how to replay it; Escape closes it. The table
    itself needs no scrolling sideways.
    """
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.goto(report_page.as_uri())
    table = opened.locator("table.summary").bounding_box()
    opened.get_by_role("button", name="hra, forward: broken").focus()
    opened.keyboard.press("Enter")
    panel = opened.get_by_role("region", name="hra, forward")
    told = panel.inner_text()
    objections = Axe().run(opened).generate_report()
    opened.keyboard.press("Escape")
    shown = panel.is_visible()
    opened.close()
    assert table["x"] >= 0
    assert table["x"] + table["width"] <= width
    for word in ("forward agrees with the oracle", "recipe   ", "replay   "):
        assert word in told
    assert objections.startswith("Found 0 "), objections
    assert not shown


def test_the_page_prints(browser: Any, report_page: Path) -> None:
    """On paper tables do not scroll, and everything is black on white whatever the screen's scheme."""
    context = browser.new_context(viewport={"width": 794, "height": 1123}, color_scheme="dark")
    opened = context.new_page()
    opened.goto(report_page.as_uri())
    opened.emulate_media(media="print", color_scheme="light")
    tables = "[...document.querySelectorAll('.scroll')]"
    scrolling = opened.evaluate(f"{tables}.filter(e => getComputedStyle(e).overflowX != 'visible').length")
    overflow, faint = opened.evaluate(OVERFLOW), opened.evaluate(FAINT)
    printed = opened.pdf(format="A4")
    context.close()
    assert scrolling == 0
    assert overflow == []
    assert faint["found"] == []
    assert printed.startswith(b"%PDF")


def test_the_matrix_zooms(browser: Any, report_page: Path) -> None:
    """It fits the page at first, and has its full size where asked."""
    context = browser.new_context(viewport={"width": 390, "height": 900})
    opened = context.new_page()
    opened.goto(report_page.as_uri())
    size = "document.querySelector('.zoom svg').getBoundingClientRect().width"
    fitted = opened.evaluate(size)
    opened.get_by_text("Full size / fit to the page").click()
    full = opened.evaluate(size)
    context.close()
    assert fitted < 390 < full


def test_the_page_is_one_file() -> None:
    """No script, no stylesheet, no font and no picture from elsewhere."""
    text = page(audit(["ia3"]))
    for word in ("<script", '<link rel="stylesheet', "@import", "<img", "url(http"):
        assert word not in text


def test_an_empty_report_is_a_page_too(browser: Any, tmp_path: Path) -> None:
    write(judge(Evidence(), None, PROVENANCE, ["hra"]), tmp_path)
    opened = browser.new_page()
    opened.goto((tmp_path / "index.html").as_uri())
    title = opened.title()
    overflow = opened.evaluate(OVERFLOW)
    opened.close()
    assert title == "Audit of lora-lite: PARTIAL"
    assert overflow == []
