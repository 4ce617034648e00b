"""python -m properties.fuzz.interrupts: every line of lora_lite that changes a model, interrupted in turn.

Prints how many lines each operation runs on each method, and stops at the first that leaves anything but the
model as before or as after.
"""

import argparse
import time

import lora_lite as ll
from properties.judging.interrupting import assert_before_or_after, lines_of, one_folder
from strategies.interrupts import ERRORS, OPERATIONS, Interrupt


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m properties.fuzz.interrupts", description=__doc__)
    parser.add_argument("--variant", action="append", choices=sorted(ll.VARIANTS), help="only this (all)")
    names = [kind.__name__ for kind in ERRORS]
    parser.add_argument("--error", default=names[0], choices=names, help="what is raised (default: Ctrl-C's)")
    arguments = parser.parse_args()
    began, tried = time.process_time(), 0
    for variant in arguments.variant or sorted(ll.VARIANTS):
        counts = {operation: lines_of(variant, operation) for operation in OPERATIONS}
        for operation, count in counts.items():
            with one_folder():
                for at in range(count):
                    assert_before_or_after(Interrupt(variant, operation, at, arguments.error))
            tried += count
        lines = ", ".join(f"{operation} {count}" for operation, count in counts.items())
        print(f"{variant:10} {lines}", flush=True)
    seconds = time.process_time() - began
    print(f"{tried:,} interrupts by {arguments.error} in {seconds:.0f} s: each as before, or as after")


if __name__ == "__main__":
    main()
