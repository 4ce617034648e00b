"""python -m properties.fuzz.folders: damaged peft folders by the thousand through import_peft.

Counts as python -m properties.fuzz does for files, and stops at the first folder on which import_peft does
anything but refuse with a LoraLiteError or give back what was exported.
"""

import argparse
import time
import warnings
from functools import cache

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from properties.fuzz.__main__ import BATCH, Figures, forget_peak, peak
from properties.judging.damaged_folders import outcome_of, whole_folder
from properties.judging.peft_folders import IN_PEFT
from strategies.damaged_folders import DamagedFolder, damaged_folders

whole = cache(whole_folder)


def attempt(case: DamagedFolder, figures: Figures) -> None:
    """Put one through import_peft. Raises Violation where that does not do as it should."""
    given_folder = whole(case.variant)
    held, began = forget_peak(), time.process_time()
    found = outcome_of(case, *given_folder)
    figures.note(found, time.process_time() - began, peak() - held, f"{case.variant}: {case.edits}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m properties.fuzz.folders", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="how many damaged folders (10,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first batch; each later has the next")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    figures = Figures()
    how = settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    cases = st.one_of([damaged_folders(variant) for variant in IN_PEFT])
    batch = arguments.seed
    while figures.inputs < arguments.inputs:
        seed(batch)(how(given(cases)(lambda case: attempt(case, figures))))()
        batch += 1
    print(figures)


if __name__ == "__main__":
    main()
