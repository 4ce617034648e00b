"""Recipes of places to save to: names that a file system takes, modes, and what stands there."""

import os
from dataclasses import dataclass

from hypothesis import strategies as st

# What stands at the place: nothing, a file, a symbolic link to one, to such a link, or to nothing.
STANDING = ("nothing", "file", "link", "link to a link", "dangling link")


@dataclass(frozen=True)
class Place:
    """name: bytes without NUL and slash, as hexadecimal digits. mode: of the file that stands there."""

    name: str
    standing: str = "nothing"
    mode: int = 0o644
    umask: int = 0o022

    @property
    def path(self) -> str:
        """The name as Python has it."""
        return os.fsdecode(bytes.fromhex(self.name))


_BYTES = st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & {0, 47})
NAMES = st.one_of(
    st.sampled_from((b"a", b"-rf", b" ", b"a\nb", b"\xff\xfe", b"x" * 255, "ü".encode() * 127, b"...", b"~")),
    _BYTES.filter(lambda name: name not in (b".", b"..")),
)


def places(variant: str) -> st.SearchStrategy[Place]:
    """Shrinks towards a short name where nothing stands. The owner may read and write what stands there."""
    return st.builds(
        Place,
        NAMES.map(bytes.hex),
        st.sampled_from(STANDING),
        st.integers(0, 0o777).map(lambda mode: mode | 0o600),
        st.sampled_from((0o022, 0o077, 0o002, 0)),
    )
