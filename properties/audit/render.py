"""Writes a report: audit.json by its schema, audit.md and one self-contained index.html from the
templates.
"""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from properties.audit import figures, links
from properties.audit.report import Fix, Report, Stage
from properties.audit.schema import validate
from properties.audit.sight import Mutation, Worth
from properties.audit.wording import counted
from properties.audit.worth import CASES
from properties.judging.outcome import (
    BROKEN,
    CRASHED,
    DECLARED,
    HELD,
    NOT_APPLICABLE,
    NOT_JUDGED,
    STAGES,
    Outcome,
)

# Columns of the table of localisation.
PLACES = {
    "function_first": "function first",
    "function_in_three": "in three",
    "function_in_five": "in five",
    "file_first": "file first",
    "line_first": "line first",
    "line_in_five": "in five",
    "line_in_ten": "in ten",
}
SEVERITY = {
    **dict.fromkeys(
        ("CORRECT", "held", "sound", "exact", "HAS_REFERENCE", "OK", "MATCH", "yes", "killed", "ok"), "good"
    ),
    **dict.fromkeys(
        ("BUGGY", "broken", "crashed", "fails", "too loose", "too tight", "GONE", "WRONG TITLE", "survived"),
        "bad",
    ),
    **dict.fromkeys(("PARTIAL", "not judged", "no reference", "NO_REFERENCE", "DRIFT"), "warn"),
}


def write(report: Report, folder: Path) -> list[Path]:
    """The three files. Raises jsonschema.ValidationError where the report is not what its schema says."""
    folder.mkdir(parents=True, exist_ok=True)
    data = report.to_json()
    validate(data)
    plain = json.dumps(data, indent=1, ensure_ascii=False)
    text = {"index.html": page(report), "audit.md": markdown(report), "audit.json": plain}
    for name, content in text.items():
        (folder / name).write_text(content + "\n", encoding="utf-8")
    return [folder / name for name in text]


def markdown(report: Report) -> str:
    """audit.md."""
    return environment().get_template("audit.md.j2").render(**_context(report))


def page(report: Report) -> str:
    """index.html: style and pictures inside, no script, no network."""
    claims = [w.claim for w in report.claims]
    pictures = {
        "heat": {block.variant: _picture(figures.heat_map(block)) for block in report.blocks},
        "matrix": _picture(figures.matrix(report.matrix, claims)),
        "growth": _picture(figures.growth(report.speed)),
    }
    return environment().get_template("index.html.j2").render(**_context(report), pictures=pictures)


def _picture(svg: str | None) -> Markup | None:
    return None if svg is None else Markup(svg)  # drawn by figures, not by a user


def _context(report: Report) -> dict[str, Any]:
    return {
        "report": report,
        "stages": STAGES,
        "capability_names": list(dict.fromkeys(c["name"] for c in report.capabilities)),
        "capability": {(c["variant"], c["name"]): c["outcome"] for c in report.capabilities},
        "good_links": links.GOOD,
        "places": PLACES,
    }


def environment() -> Environment:
    """Of the templates, with the filters that they use."""
    made = Environment(
        loader=PackageLoader("properties.audit"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "figure": figure,
        "amount": amount,
        "count": count,
        "shares": shares,
        "noise": noise,
        "cases": cases,
        "faint": faint,
        "matrix_told": matrix_told,
    }
    made.filters |= {
        "others": others,
        "cell": cell,
        "severity": severity,
        "text": state_text,
        "counted": counted,
        "reasons": reasons,
    }
    return made


def matrix_told(mutation: Mutation) -> str:
    """Where the table below has what claims catch from."""
    if (of := mutation.matrix) is None:
        return (
            "Each was tried until a claim noticed it on each of its variants. What each claim catches, and"
            " alone catches, takes a run with --matrix (long), or --matrix-from the matrix.json of one."
        )
    if not of.file:
        return "Every claim was tried under every one of them."
    changed = "" if of.same else ", of a lora_lite that was changed since"
    return f"What each claim catches is that of another run: {of.file}, {of.made}{changed}."


def figure(value: float | None) -> str:
    """A share of a tolerance or the like, short: "0.031", "2.1e+05"; a dash where none was measured."""
    return "–" if value is None else f"{value:.2g}" if value == value else "nan"


def amount(value: float) -> str:
    """Of time or memory, fine enough to tell a tie from a lead: "1.14", "4,160"."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def reasons(figures: dict[str, float]) -> str:
    """What makes a function a suspect: "claims 0.71, variants 1.00"."""
    return ", ".join(f"{name} {value:.2f}" for name, value in figures.items())


# Colour alone tells nothing to who cannot see it.
SIGNS = {HELD: "✓", DECLARED: "≠", NOT_JUDGED: "?", BROKEN: "✗", CRASHED: "✗", NOT_APPLICABLE: "–"}


def count(stage: Stage) -> str:
    """The sign of a stage's worst state, and how many claims held, of those that apply: "? 6/9"."""
    total = stage.held + stage.failed + stage.not_judged + stage.declared
    figure = f"{stage.held}/{total}" if stage.held != total else str(total or "")
    return f"{SIGNS[stage.state]} {figure}".strip()


def shares(by_dtype: dict[str, float]) -> str:
    """ "f32 0.03 · bf16 0.2"; "=" where there is none, as equality is claimed."""
    short = {
        dtype.replace("bfloat", "bf").replace("float", "f"): value
        for dtype, value in sorted(by_dtype.items())
    }
    # Each dtype keeps to its figure where the line breaks.
    return " · ".join(f"{dtype}\u00a0{figure(value)}" for dtype, value in short.items()) or "="


def noise(w: Worth) -> str:
    """What correct code shows; "=" where equality or a plain fact is claimed, a dash where it was not
    measured.
    """
    return shares(w.noise) if w.noise or w.tolerance == "exact" else "–"


def cases(w: Worth) -> str:
    """How many the noise is known from, and whether these are few."""
    return f"{w.examples:,}{' (few)' if w.examples < CASES else ''}" if w.noise else "–"


def faint(w: Worth) -> list[str]:
    """Of each dtype in which mutants are faint: how many, and where they are clear."""
    clear = [dtype for dtype, verdict in w.dtypes.items() if verdict == "sound"]
    where = f", caught in {' and '.join(clear)}" if clear else ", caught in other dtypes"
    return [f"{counted(len(names), 'mutant')} hidden in {dtype}{where}" for dtype, names in w.hidden.items()]


def others(fix: Fix) -> list[Outcome]:
    """Of each claim but the heading one the simplest failure."""
    first = {failure.claim: failure for failure in reversed(fix.failures)}
    del first[fix.failures[0].claim]
    return [failure for failure in fix.failures if first.get(failure.claim) is failure]


def cell(text: object) -> str:
    """Text that keeps to its cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def severity(word: str) -> str:
    """Which colour a word has: good, bad, warn or idle."""
    return SEVERITY.get(word, "idle")


def state_text(stage: Stage) -> str:
    """A cell of the summary in Markdown: what is wrong stands out."""
    return f"**{count(stage)}**" if stage.failed else count(stage)
