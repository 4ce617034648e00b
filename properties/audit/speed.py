"""The figures of speed, which are another run's: read, and checked, before anything else runs."""

import json
from pathlib import Path

import jsonschema
import pytest

from properties.audit.evidence import Speed
from properties.audit.report import SpeedSource
from properties.audit.schema import rows as wanted


def read(path: Path) -> Speed:
    """Raises pytest.UsageError where the file is not there, or is not what the benchmark writes."""
    remedy = f"Write it with python -m properties.speed --json {path}"
    try:
        held = json.loads(path.read_text("utf-8"))
        of = SpeedSource(str(path), held["made"], held["machine"])
        rows = held["rows"]
        jsonschema.validate(rows, wanted("speed"))
        jsonschema.validate(costs := held.get("costs", []), wanted("speed_costs"))
    except OSError as error:
        raise pytest.UsageError(f"--speed {path}: {error.strerror or error}. {remedy}") from error
    except (ValueError, KeyError, TypeError, jsonschema.ValidationError) as error:
        told = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        raise pytest.UsageError(f"--speed {path} holds no figures of speed: {told}. {remedy}") from error
    return Speed(rows, of, costs)
