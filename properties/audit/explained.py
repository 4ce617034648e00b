"""python -m properties.audit.explained DIR/subjects.json: broken cells of a table that no finding explains.

Exits with 1 where there is one. What explains which is in findings/explained.txt.
"""

import json
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

FINDINGS = Path(__file__).parents[1] / "findings"
DOCUMENTED = "documented"


class Explained(NamedTuple):
    """Patterns of methods and of claims, and the finding that their cells come from."""

    method: str
    claims: tuple[str, ...]
    finding: str


def explained() -> list[Explained]:
    """The lines of the table, in their order."""
    rows = []
    for line in (FINDINGS / "explained.txt").read_text(encoding="utf-8").splitlines():
        library, _, rest = line.partition(":")
        if library and " " not in library and rest.count(": ") == 2:
            method, claims, finding = rest.split(": ")
            rows.append(Explained(f"{library}:{method}", tuple(claims.split(", ")), finding))
    return rows


def unexplained(table: dict[str, Any]) -> list[dict[str, Any]]:
    """The broken and crashed outcomes, of the libraries that the lines are about, on which none fits."""
    lines = explained()
    libraries = {line.method.partition(":")[0] for line in lines}
    return [
        outcome
        for row in table["rows"]
        for outcome in row["outcomes"]
        if outcome["state"] in ("broken", "crashed")
        and row["method"].partition(":")[0] in libraries
        and not any(_fits(line, outcome) for line in lines)
    ]


def _fits(line: Explained, outcome: dict[str, Any]) -> bool:
    named = fnmatch(outcome["method"], line.method)
    return named and any(fnmatch(outcome["claim"], claim) for claim in line.claims)


def main() -> None:
    found = [o for path in sys.argv[1:] for o in unexplained(json.loads(Path(path).read_text()))]
    for outcome in found:
        print(f"{outcome['method']}: {outcome['claim']}: {outcome['why'].partition(chr(10))[0]}")
    print(f"{len(found)} broken cells without a finding")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
