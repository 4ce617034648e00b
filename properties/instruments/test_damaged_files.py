"""Damage does something, and reaches every place."""

import pytest

from properties.instruments.searching import minimal
from properties.judging.files import base, outcome, saved
from strategies import damaged_files
from strategies.files import edited, forged

pytestmark = pytest.mark.instruments

BYTE_KINDS = ("data", "cut", "flip", "byte", "move", "append", "length", "noise")
HEADER_KINDS = ("vary", "put", "drop", "again", "name", "deep", "long", "many", "wide", "patterns")


@pytest.mark.parametrize("kind", [*BYTE_KINDS, *HEADER_KINDS])
def test_every_kind_of_damage_is_reached_and_does_some(kind: str) -> None:
    with saved() as path:
        whole = path.read_bytes()
    edits = damaged_files("lora").map(lambda file: file.edits[0])
    assert minimal(edits, lambda edit: edit[0] == kind and edited(whole, edit) != whole)


def test_holes_make_a_file_long_and_take_no_room() -> None:
    with saved() as path:
        whole = path.read_bytes()
        file = minimal(damaged_files("lora"), lambda file: ("holes", 40) in file.edits)
        file.lay(path, whole)
        assert path.stat().st_size > 2**40 > 2**20 > path.stat().st_blocks * 512


def test_a_forged_file_gets_past_the_digest() -> None:
    """Else no edit of a header would reach what lies behind."""
    with saved() as path:
        whole = path.read_bytes()
        path.write_bytes(changed := forged(edited(whole, ("data", 3, 1))))
        assert changed != whole
        assert outcome(base(), path, None) == "loaded"


def test_a_damaged_file_shrinks_to_one_edit() -> None:
    file = minimal(damaged_files("lora"))
    assert (file.edits, file.forged) == ((("data", 0, 0),), False)
