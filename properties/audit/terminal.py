"""What the terminal shows: properties by variants, and the rows of the summary."""

from collections.abc import Sequence

from properties.audit.report import Measured, Report
from properties.audit.wording import counted


def table(measured: Sequence[Measured]) -> str:
    """Properties down and variants across, each cell with its examples and its worst error as a share of
    tolerance.
    """
    variants = list(dict.fromkeys(m.variant for m in measured))
    cells = {(m.claim, m.variant): _cell(m) for m in measured}
    rows = [["property", *variants, "examples/s"]]
    for name in dict.fromkeys(m.claim for m in measured):
        cells_of = [cells.get((name, variant), "") for variant in variants]
        rows.append([name.replace("_", " "), *cells_of, _rate([m for m in measured if m.claim == name])])
    total = sum(m.examples or 0 for m in measured)
    legend = (
        "A cell: examples run · worst error as a share of its tolerance (=: equality claimed)."
        f" {counted(total, 'example')}."
    )
    return "\n".join([*_aligned(rows), "", legend])


def summary(report: Report) -> str:
    """Variants down and columns across, as in the report, with the reason of what is not correct."""
    columns = list(report.blocks[0].columns) if report.blocks else []
    rows = [["variant", *(column.replace("_", " ") for column in columns), "verdict"]]
    rows += [[b.variant, *(b.columns[column].state for column in columns), b.verdict] for b in report.blocks]
    reasons = [f"{b.variant}: {b.reason}" for b in report.blocks if b.verdict != "CORRECT"]
    library = f"The library as a whole: {report.library.state}. {report.library.why}"
    told = [f"{counted(len(report.suite), 'test')} of the suite itself did not pass."] if report.suite else []
    told += [f"The mutation matrix is incomplete: {report.mutation.why}."] if report.mutation.why else []
    return "\n".join(
        [*_aligned(rows), "", *reasons, library, *told, f"To fix: {len(report.must_fix) or 'nothing'}."]
    )


def _cell(m: Measured) -> str:
    """ "60 · 0.31", or "60 · =" where equality was claimed and found."""
    if m.examples is None:
        return "FAILS"
    return f"{m.examples} · {max(m.worst.values()):.2f}" if m.worst else f"{m.examples} · ="


def _rate(measured: Sequence[Measured]) -> str:
    seconds = sum(m.seconds for m in measured if m.examples is not None)
    return f"{sum(m.examples or 0 for m in measured) / seconds:.0f}" if seconds else ""


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
