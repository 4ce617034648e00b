"""The report as text."""

from properties.verify.report import Finding, Report, Row, percent

SHOWN = 6


def page(report: Report) -> str:
    """The verdict first, then what was found, then a row a layer."""
    lines = [report.verdict]
    for title, findings in (
        ("fault", report.faults),
        ("remark", [finding for finding in report.findings if not finding.fault]),
    ):
        lines += [f"\n{title:8}{_told(finding)}" for finding in findings]
    lines += ["", *(f"{name:20}{told}" for name, told in report.about.items())]
    if report.rows:
        lines += ["", *_table(report.rows)]
    return "\n".join(lines)


def _told(finding: Finding) -> str:
    names = ", ".join(finding.layers[:SHOWN])
    more = f" and {len(finding.layers) - SHOWN} more" if len(finding.layers) > SHOWN else ""
    where = f" ({len(finding.layers)}): {names}{more}" if finding.layers else ""
    return f"{finding.kind}{where}\n        {finding.text}"


def _table(rows: list[Row]) -> list[str]:
    merged = any(row.merged for row in rows)
    width = max(len("layer"), *(len(row.layer) for row in rows))
    head = f"{'layer':{width}}  {'effect':>10}  {'alone':>10}"
    lines = [head + (f"  {'merged':>8}  {'roundings':>9}" if merged else "")]
    for row in rows:
        line = f"{row.layer:{width}}  {_share(row.effect):>10}  {_share(row.alone):>10}"
        if row.merged is not None:
            line += f"  {row.merged.times:>6.3g} ×  {row.merged.rest:>9.2g}"
        lines.append(line)
    told = "effect: of the layer's output, all adapters on. alone: of the model's, with this one on"
    return [*lines, "", told + (". merged: wanted 1 ×, less than 2 roundings" if merged else "") + "."]


def _share(share: float | None) -> str:
    return "not called" if share is None else percent(share)
