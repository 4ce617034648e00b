"""What a process is doing, in a file that outlives it: should it die, whoever started it can tell of what."""

import faulthandler
import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from properties.judging.outcome import Frame
from strategies.recipes import RecipeError, to_json


@dataclass(frozen=True)
class Entry:
    """A test, the claim that it judges on which method, and the recipe (as JSON) of the example that is being
    tried.
    """

    nodeid: str = ""
    claim: str = ""
    method: str | None = None
    stage: str = ""
    recipe: Any = None


class Journal:
    """The last entry; faulthandler's stack is beside it."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb", buffering=0)
        self.stack = path.with_suffix(".stack").open("w")
        self.entry = Entry()
        if faulthandler.is_enabled():
            faulthandler.enable(self.stack)

    def write(self, entry: Entry) -> None:
        self.entry = entry
        line = json.dumps(asdict(entry)).encode()
        self.file.seek(0)
        # One call: nothing can end the process between the length and the line.
        self.file.write(len(line).to_bytes(8, "little") + line)


_journal: Journal | None = None


def keep(path: Path) -> None:
    """From now on, keep this process's journal there."""
    global _journal
    _journal = Journal(path)


def close() -> None:
    """This process ends in peace, and has nothing to tell."""
    global _journal
    if _journal is not None:
        if faulthandler.is_enabled():
            faulthandler.enable()
        _journal.file.close()
        _journal.stack.close()
        _journal = None


def begin(nodeid: str) -> None:
    """A test begins."""
    if _journal is not None:
        _journal.write(Entry(nodeid))


def note_claim(claim: str, method: str | None, stage: str) -> None:
    """The test judges this claim."""
    if _journal is not None:
        _journal.write(replace(_journal.entry, claim=claim, method=method, stage=stage))


def note(case: Any) -> None:
    """This is being tried."""
    if _journal is not None:
        with suppress(RecipeError):
            _journal.write(replace(_journal.entry, recipe=to_json(case)))


def read(path: Path, nodeid: str) -> tuple[Entry, list[Frame]]:
    """What was being done in this test, and the frames of the thread that died, the innermost first."""
    if not path.exists():
        return Entry(nodeid), []
    page = path.read_bytes()
    entry = Entry(**json.loads(page[8 : 8 + int.from_bytes(page[:8], "little")] or "{}"))
    text = path.with_suffix(".stack").read_text("utf-8", "replace")
    text = text[max(text.find("Current thread"), 0) :]
    ours = re.split("^  File .*/_pytest/", text, flags=re.MULTILINE)[0]
    found = re.findall(r'^  File "(.*)", line (\d+) in (.*)', ours, re.MULTILINE)
    frames = [Frame(file, int(line), function) for file, line, function in found]
    return (entry if entry.nodeid == nodeid else Entry(nodeid)), frames
