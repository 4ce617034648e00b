"""Where the suite lies, in a checkout of its repository or installed from a wheel; and where its files go."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# The tests of the suite itself and what they look at are in no wheel.
IN_A_CHECKOUT = (PACKAGE / "instruments").is_dir()
# A file system in memory, which Linux has; in a container it may be a small one.
MEMORY, ROOM = Path("/dev/shm"), 2**30


@cache
def in_memory() -> Path | None:
    """Where a file waits for no disk: save makes sure that it is there, which takes milliseconds on one. None
    where there is no such place, or little room.
    """
    try:
        with tempfile.TemporaryFile(dir=MEMORY):
            return MEMORY if shutil.disk_usage(MEMORY).free > ROOM else None
    except OSError:
        return None
