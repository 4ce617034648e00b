"""pytest --audit in a process of its own."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from properties.audit.schema import validate
from properties.instruments.sessions import Session

ROOT = Path(__file__).parents[2]


class Audited(NamedTuple):
    """How a run ended, what it printed, and what audit.json says."""

    code: int
    printed: str
    data: dict[str, Any]


def run_audit(folder: Path, *arguments: str, at: Path = ROOT) -> Audited:
    """pytest --audit in another process: its three files are there whatever came of it, and the JSON is as
    its schema says.
    """
    options = ("-p", "no:cacheprovider", "--max-examples", "5", f"--audit={folder}", *arguments)
    # A worker of this run must not be taken for one of that.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    code, printed = Session(at, options, environment).ended()
    assert {path.name for path in folder.iterdir()} >= {"index.html", "audit.md", "audit.json"}, printed
    data = json.loads((folder / "audit.json").read_text("utf-8"))
    validate(data)
    return Audited(code, printed, data)
