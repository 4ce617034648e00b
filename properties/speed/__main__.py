"""python -m properties.speed: what each variant costs over the plain frozen layer, beside peft where it has
the variant.
"""

import argparse
import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import torch

import lora_lite as ll
from properties.speed import suite
from properties.speed.costs import of_the_base, once
from properties.speed.growth import growth, many_layers, slopes
from properties.speed.layers import DECODE, GENERATION, SIZES, TRAINING, Row, rows
from properties.speed.memory import of_a_life, of_a_step
from properties.speed.models import Cost
from properties.speed.profile import profiled
from strategies import set_device


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m properties.speed", description=__doc__)
    parser.add_argument(
        "--variant", action="append", choices=list(ll.VARIANTS), help="only this variant (repeatable)"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch, on the CPU")
    parser.add_argument("--device", default="cpu", help="where the layers lie, for example cuda")
    parser.add_argument("--growth", action="store_true", help="how cost grows, in place of the table")
    parser.add_argument(
        "--widest", type=int, default=4096, help="of --growth: no wider layer (an SVD of 4096 takes a minute)"
    )
    parser.add_argument(
        "--suite", action="store_true", help="what the suite itself costs, in place of the table"
    )
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 2], help="of --suite: its whole runs, at each number"
    )
    parser.add_argument(
        "--runs", nargs="*", choices=list(suite.RUNS), help="of --suite: only these whole runs"
    )
    parser.add_argument(
        "--profile",
        nargs=argparse.REMAINDER,
        metavar="ARGUMENT",
        help="where the processor time of pytest with these arguments goes, in place of the table",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    set_device(options.device)
    if options.profile is not None:
        for line in profiled(options.profile):
            print(line, flush=True)
        return
    if options.suite:
        for line in suite.lines(suite.RUNS if options.runs is None else options.runs, options.workers):
            print(line, flush=True)
        return
    made = datetime.now(UTC).isoformat(timespec="seconds")
    report: dict[str, Any] = {"made": made, "machine": machine(options.device), "rows": []}
    for variant in options.variant or ll.VARIANTS:
        if options.growth:
            add_growth(report, variant, options.widest)
        else:
            add_table(report, variant)
    if not options.growth:
        report.setdefault("costs", []).extend(costs_as_they_come(of_the_base()))
        report["beside"] = dict(counted(report["rows"]))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def add_table(report: dict[str, Any], variant: str) -> None:
    """Training at every size, generation, what happens once, memory in a step and in a life."""
    for size in SIZES:
        report["rows"] += printed(rows(variant, size, TRAINING))
    for size in DECODE:
        report["rows"] += printed(rows(variant, size, GENERATION))
    report.setdefault("costs", []).extend(
        costs_as_they_come(chain(once(variant), of_a_step(variant), of_a_life(variant)))
    )


def add_growth(report: dict[str, Any], variant: str, widest: int) -> None:
    """Rows along each axis, and the slopes."""
    found = []
    for axis, row in growth(variant, widest):
        found.append((axis, row))
        report["rows"] += ({**told_row, "axis": axis} for told_row in printed([row]))
    report.setdefault("costs", []).extend(costs_as_they_come(many_layers(variant)))
    made = slopes(found)
    for slope in made:
        print(
            f"{slope.variant:24} {slope.phase:17} {slope.implementation:10} extra time ~"
            f" {slope.axis}^{slope.slope:.2f}"
            + (f", flops ~ {slope.axis}^{slope.counted:.2f}" if slope.counted is not None else "")
        )
    report.setdefault("slopes", []).extend(asdict(slope) for slope in made)


def counted(rows: Iterable[dict[str, Any]]) -> Counter[str]:
    """How many cells of the table are ahead of peft's, a tie within the spread, or behind; and which are."""
    told = list(rows)
    found = Counter(row["beside"] for row in told if row["beside"])
    cells = ", ".join(f"{found[kind]} {kind}" for kind in ("ahead", "tie", "behind"))
    print(f"beside peft, of {found.total()} cells: {cells}")
    # peft's row comes after ours.
    for row, other in pairwise(told):
        if row["beside"] == "behind":
            # What no order of operations makes up for.
            more = f", of {row['flops'] / max(1, other['flops']):.2f} × peft's operations"
            cell = f"{row['variant']} d={row['d']} tokens={row['tokens']} {row['dtype']} {row['phase']}"
            print(f"  behind: {cell}{more}")
    return found


def machine(device: str) -> dict[str, str]:
    """What the figures depend on besides the code."""
    name = (
        torch.cuda.get_device_name()
        if device.startswith("cuda")
        else platform.processor() or platform.machine()
    )
    return {
        "device": device,
        "processor": name,
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def printed(found: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """Each row as it comes, for JSON."""
    for row in found:
        size = f"d={row.d} r={row.r} tokens={row.tokens} {row.dtype}"
        print(
            f"{row.variant:24} {size:36} {row.phase:17} {row.implementation:10} {row.ratio:6.3f} "
            f" [{row.q1:.3f} {row.q3:.3f}]  {row.milliseconds:.3f} ms over {row.base_milliseconds:.3f} "
            f" samples {row.samples}, dropped {row.dropped}  {row.beside}",
            flush=True,
        )
        yield asdict(row)


def costs_as_they_come(costs: Iterable[Cost]) -> Iterator[dict[str, Any]]:
    """Each cost as it comes, for JSON."""
    for cost in costs:
        print(
            f"{cost.variant:24} {cost.what:36} {'':17} {cost.implementation:10} {cost.value:8.2f}"
            f" {cost.unit}",
            flush=True,
        )
        yield asdict(cost)


if __name__ == "__main__":
    main()
