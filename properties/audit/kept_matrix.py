"""The whole matrix, every claim under every mutant, as a file: --matrix writes it, --matrix-from reads it."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from properties.audit.evidence import Matrix
from properties.audit.provenance import fingerprint
from properties.audit.sight import MatrixSource
from properties.mutation import load_catalogue
from properties.mutation.matrix import Cell, Row, rows_of

NAME = "matrix.json"


def write(rows: list[Row], folder: Path) -> Path:
    """folder/matrix.json."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    held = {
        "made": made,
        "source": fingerprint(),
        "cells": [asdict(cell) for row in rows for cell in row.cells],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    path.write_text(json.dumps(held), encoding="utf-8")
    return path


def read(path: Path) -> Matrix:
    """Rows of mutants that the catalogue still has. Raises pytest.UsageError where it holds no matrix."""
    remedy = "Write it with pytest properties --matrix --audit DIR"
    try:
        held = json.loads(path.read_text("utf-8"))
        cells = [Cell(**cell) for cell in held["cells"]]
        of = MatrixSource(str(path), held["made"], held["source"] == fingerprint())
    except OSError as error:
        raise pytest.UsageError(f"--matrix-from {path}: {error.strerror or error}. {remedy}") from error
    except (ValueError, KeyError, TypeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise pytest.UsageError(f"--matrix-from {path} holds no matrix: {told}. {remedy}") from error
    return Matrix(rows_of(cell for cell in cells if cell.mutant in load_catalogue()), of)


def of_run(config: pytest.Config) -> Matrix | None:
    """What --matrix-from names. Raises pytest.UsageError, and where --matrix measures one itself."""
    given: Any = config.getoption("--matrix-from")
    if given is None:
        return None
    if config.getoption("--matrix"):
        raise pytest.UsageError("--matrix measures what --matrix-from would read: give one of them.")
    return read(Path(given))
