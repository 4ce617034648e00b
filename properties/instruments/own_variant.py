"""README's example of a variant of one's own, and the suite as it is installed from what is published."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BUILD = (
    "import sys; from setuptools import build_meta; getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2])"
)

# Of a checkout, what is no part of it.
LEFT = ("__pycache__", "*.egg-info", "build", "artifacts", ".git", ".hypothesis", ".venv", ".*_cache")


def readme_example() -> dict[str, str]:
    """Its files, by name: README has what a variant must have, properties/README.md the oracle."""
    readme = "".join((ROOT / at).read_text(encoding="utf-8") for at in ("README.md", "properties/README.md"))
    return dict(re.findall(r"```python\n# my_adapters/(\S+)\n(.*?)```", readme, re.DOTALL))


def install(folder: Path) -> Path:
    """The site folder of a wheel that was built from the sdist that was built from this checkout."""
    source, site = folder / "source", folder / "site"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*LEFT))
    _run(source, "-c", BUILD, "sdist", str(folder))
    (sdist,) = folder.glob("*.tar.gz")
    # Python before 3.11.4 has no filters; the archive is our own.
    how: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", **how)
    (unpacked,) = (folder / "unpacked").iterdir()
    _run(unpacked, "-c", BUILD, "wheel", str(folder))
    (wheel,) = folder.glob("*.whl")
    offline = ("--quiet", "--no-deps", "--no-index", "--no-compile")
    _run(folder, "-m", "pip", "install", *offline, "--target", str(site), str(wheel))
    return site


def _run(at: Path, *words: str) -> None:
    done = subprocess.run([sys.executable, *words], cwd=at, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def pytest_at(site: Path, folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """pytest as a user runs it in the folder, who has the suite installed there and no checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "CI"))}
    environment = {**kept, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200", **more}
    # -P: the program pytest puts no folder on the path, as -m does.
    command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
