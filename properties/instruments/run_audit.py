"""pytest --audit in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from properties.audit.schema import validate

ROOT = Path(__file__).parents[2]


def run_audit(
    folder: Path, *arguments: str, at: Path = ROOT
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """pytest --audit in another process: its three files are there whatever came of it, and the JSON is as
    its schema says.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--max-examples",
        "5",
        f"--audit={folder}",
        *arguments,
    ]
    # A worker of this run must not be taken for one of that.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    ended = subprocess.run(
        command, cwd=at, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert {path.name for path in folder.iterdir()} >= {"index.html", "audit.md", "audit.json"}, (
        ended.stdout + ended.stderr
    )
    data = json.loads((folder / "audit.json").read_text("utf-8"))
    validate(data)
    return ended, data
