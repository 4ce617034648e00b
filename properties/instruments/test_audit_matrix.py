"""The audit's table of mutants by claims: of this run, of another one, and the score in lines."""

import dataclasses
from pathlib import Path

import pytest

from properties.audit import kept_matrix
from properties.audit.evidence import Evidence
from properties.audit.judge import judge
from properties.audit.render import markdown, page
from properties.instruments.sample_audit import PROVENANCE
from properties.judging.outcome import HELD, Outcome
from properties.mutation import score
from properties.mutation.matrix import Cell, Row

pytestmark = pytest.mark.instruments

CLAIM = "identity_at_init"


def test_another_runs_matrix_says_what_claims_catch(tmp_path: Path) -> None:
    """And that it is another run's; what this run injected is its own, and what is gone has no row."""
    cells = [
        Cell(CLAIM, n, "lora", "killed", 7, signal={"float32": 300.0}) for n in ("lora_scale_lost", "gone")
    ]
    path = kept_matrix.write([Row(cell.mutant, [cell]) for cell in cells], tmp_path)
    found = kept_matrix.read(path)
    assert ([row.cells for row in found.rows], found.of.same) == ([cells[:1]], True)
    report = judge(
        Evidence([Outcome(CLAIM, "lora", "init", HELD, examples=9, budget=60)], matrix=found),
        None,
        PROVENANCE,
        ["lora"],
    )
    (told,) = (w for w in report.claims if w.claim == CLAIM)
    assert (told.kills, told.tried) == (["lora_scale_lost"], 1)
    assert (report.mutation.rows, report.mutants) == (0, [])
    assert [row.name for row in report.matrix] == ["lora_scale_lost"]
    # One row of hundreds is no whole matrix: what is alone there may not be so.
    assert report.mutation.matrix is None
    whole = dataclasses.replace(report.mutation, matrix=dataclasses.replace(found.of, same=False))
    for text in (markdown, page):
        shown = text(dataclasses.replace(report, mutation=whole))
        assert f"that of another run: {path}" in shown
        assert "of a lora_lite that was changed since" in shown


@pytest.mark.parametrize("held", [None, "{}", '{"made": "", "source": "", "cells": [{"no": 1}]}', "[]", "no"])
def test_a_file_that_holds_no_matrix_is_refused(held: str | None, tmp_path: Path) -> None:
    path = tmp_path / "matrix.json"
    if held is not None:
        path.write_text(held)
    with pytest.raises(pytest.UsageError, match=r"--matrix-from .*matrix\.json.*Write it with"):
        kept_matrix.read(path)


def test_the_score_is_told_by_kind_with_what_survives() -> None:
    """What the tests of generated mutants leave comes to lines beside that of the named ones."""
    outcomes = [
        score.Outcome("ia3_ff: update_transposed", "equivalent"),
        score.Outcome("new", "survived"),
        score.Outcome("old", "killed"),
    ]
    found = Evidence(
        rows=[Row("lora_scale_lost", [Cell(CLAIM, "lora_scale_lost", "lora", "killed", 6)])],
        records={"surveyed": [("interface", [vars(one) for one in outcomes])]},
    )
    report = judge(found, None, PROVENANCE, ["lora"])
    named, interface = report.mutation.scores
    assert (named.kind, named.killed, named.survived) == ("named", 1, 0)
    assert (interface.killed, interface.survived, interface.equivalent) == (1, 1, 1)
    for text in (markdown(report), page(report)):
        assert named.told in text
        assert "a claim that notices" in text
