"""Recipes of damaged peft folders: edits of the two files that one holds."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from strategies.files import BOMBS, BYTE_EDITS, HEADER_EDITS, Edit, dumps, edited, lie, start_of_tensors

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PARTS = (CONFIG, TENSORS)
PATTERNS = ("target_modules", "exclude_modules", "layers_pattern")


@dataclass(frozen=True)
class DamagedFolder:
    """A folder that export_peft wrote, and what was done to its files afterwards, one after the other."""

    variant: str
    edits: tuple[tuple[str, Edit], ...]

    def lay(self, folder: Path, whole: Mapping[str, bytes]) -> None:
        """Write the edited files there."""
        for part, content in whole.items():
            for own, edit in self.edits:
                content = _edited(part, content, edit) if own == part else content
            (folder / part).write_bytes(content)


def _edited(part: str, content: bytes, edit: Edit) -> bytes:
    kind, at, *more = edit
    if kind not in HEADER_KINDS:
        return edited(content, edit)
    try:
        start = start_of_tensors(content) if part == TENSORS else 0
        held = json.loads(content[8:start] if start else content)
        if kind == "patterns":
            # A string is a pattern there, and a list are names.
            held[PATTERNS[at % len(PATTERNS)]] = BOMBS[at % len(BOMBS)]
        else:
            lie(held, {}, kind, at, *more)
        text = dumps(held).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return content  # an earlier edit left nothing to parse
    return struct.pack("<Q", len(text)) + text + content[start:] if start else text


HEADER_KINDS = ("put", "drop", "again", "name", "deep", "long", "many", "wide", "patterns", "vary")
EDITS = BYTE_EDITS | HEADER_EDITS | st.tuples(st.just("vary"), st.integers(0, 2**16 - 1))


def damaged_folders(variant: str) -> st.SearchStrategy[DamagedFolder]:
    """A valid folder after one edit or a few."""
    one = st.tuples(st.sampled_from(PARTS), EDITS)
    return st.builds(DamagedFolder, st.just(variant), st.lists(one, min_size=1, max_size=3).map(tuple))
