"""Where the suite lies: in a checkout of its repository, or installed from a wheel."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# The tests of the suite itself and what they look at are in no wheel.
IN_A_CHECKOUT = (PACKAGE / "instruments").is_dir()
