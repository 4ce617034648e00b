"""python -m properties.fuzz.races: savers that are killed; savers and readers that race; by the hundred."""

import argparse
import tempfile
from pathlib import Path

from properties.judging.sharing_files import kill_savers, race


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m properties.fuzz.races", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="processes to kill as they save (200)")
    parser.add_argument("--loads", type=int, default=334, help="by each of three readers (334)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which processes are killed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "adapter.safetensors")
        left = kill_savers(path, arguments.kills, arguments.seed)
        print(f"{arguments.kills} kills, {left} left a half-made file: the old or the new one, cleared after")
        found = race(path, arguments.loads)
        print(f"{found.total()} loads beside two writers: {dict(found)}, each one version")


if __name__ == "__main__":
    main()
