"""Silent failures that show in two processes alone, and how they train with one inside."""

from pathlib import Path
from typing import Any

from properties.mutation import load_catalogue
from properties.subjects.processes import train

# Each under the engine that it shows in.
MUTANTS = {"save_writes_one_share": "FSDP2", "save_fails_but_in_the_first_process": "DDP"}


def train_with(rank: int, folder: Path, mutant: str) -> dict[str, Any]:
    """As train, of lora, into a folder of the mutant's own."""
    own = folder / mutant
    own.mkdir(exist_ok=True)
    with load_catalogue()[mutant].injected():
        return train(rank, own, MUTANTS[mutant], "lora")
