"""What a run leaves for a merge: DIR/records.json, written in one step, digest inside."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from properties.audit.evidence import Evidence
from properties.audit.report import Provenance, Shard, SuiteFailure
from properties.judging.outcome import Outcome
from properties.mutation.matrix import Cell, rows_of
from properties.regressions.fixture import write_atomically

NAME = "records.json"
FORMAT = 1


class RecordsError(Exception):
    """Records that cannot be merged: which, what was found, what was wanted, what to do."""


@dataclass(frozen=True)
class Records:
    """What runs left behind. shards: one where no merge has united several."""

    shards: list[Shard]
    evidence: Evidence


def write(records: Records, folder: Path) -> Path:
    """folder/records.json."""
    found = records.evidence
    body: dict[str, Any] = {
        "format": FORMAT,
        "shards": [asdict(shard) for shard in records.shards],
        "outcomes": [outcome.to_json() for outcome in found.outcomes],
        "cells": [asdict(cell) for row in found.rows for cell in row.cells],
        "failures": [asdict(failure) for failure in found.failures],
        "records": found.records,
        "skipped": found.skipped,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # What JSON has no name for, as a path among settings, is told as text; NaN it has in Python's dialect.
    text = json.dumps({"digest": _digest(body), **body}, default=str)
    write_atomically(folder / NAME, partial(Path.write_text, data=text, encoding="utf-8"))
    return folder / NAME


def read(folder: Path) -> Records:
    """Raises RecordsError where the folder is no audit, or its records are not whole."""
    path = folder / NAME
    again = "run it again, or leave it out: what it judged is then not judged"
    try:
        held = json.loads(path.read_text("utf-8"))
        digest = held.pop("digest")
        if digest != _digest(held):
            raise RecordsError(f"{path}: its digest is not that of what it holds: it was changed. {again}.")
        if held["format"] != FORMAT:
            raise RecordsError(f"{path}: found format {held['format']}, wanted {FORMAT}. {again}.")
        return _records(held)
    except OSError as error:
        raise RecordsError(
            f"{folder}: found no {NAME} ({error.strerror}), wanted the folder of pytest properties --audit"
            " DIR. A run that was killed leaves none."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise RecordsError(f"{path}: these are no whole records ({told}): {again}.") from error


def _digest(body: dict[str, Any]) -> str:
    return sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()


def _records(held: dict[str, Any]) -> Records:
    shards = [Shard(**one | {"provenance": Provenance(**one["provenance"])}) for one in held["shards"]]
    evidence = Evidence(
        outcomes=[Outcome.from_json(outcome) for outcome in held["outcomes"]],
        rows=rows_of(Cell(**cell) for cell in held["cells"]),
        failures=[SuiteFailure(**failure) for failure in held["failures"]],
        records=held["records"],
        skipped=held["skipped"],
    )
    return Records(shards, evidence)
