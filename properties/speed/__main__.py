"""python -m properties.speed: what each variant costs over the plain frozen layer, beside peft where it has the variant."""

import argparse
import json
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import lora_lite as ll
from properties.speed.layers import DECODE, GENERATION, SIZES, TRAINING, Row, rows
from strategies import set_device


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m properties.speed", description=__doc__)
    parser.add_argument("--variant", action="append", choices=list(ll.VARIANTS), help="only this variant (repeatable)")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on the CPU")
    parser.add_argument("--device", default="cpu", help="where the layers lie, for example cuda")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    set_device(options.device)
    report: dict[str, Any] = {"machine": machine(options.device), "rows": []}
    for variant in options.variant or ll.VARIANTS:
        for size in SIZES:
            report["rows"] += printed(rows(variant, size, TRAINING))
        for size in DECODE:
            report["rows"] += printed(rows(variant, size, GENERATION))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def machine(device: str) -> dict[str, str]:
    """What the figures depend on besides the code."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    return {"device": device, "processor": name, "torch": torch.__version__, "python": platform.python_version()}


def printed(found: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """Each row as it comes, for JSON."""
    for row in found:
        size = f"d={row.d} r={row.r} tokens={row.tokens} {row.dtype}"
        print(
            f"{row.variant:24} {size:36} {row.phase:17} {row.implementation:10} {row.ratio:6.3f}  [{row.q1:.3f} {row.q3:.3f}]"
            f"  {row.milliseconds:.3f} ms over {row.base_milliseconds:.3f}  samples {row.samples}, dropped {row.dropped}"
        )
        sys.stdout.flush()
        yield asdict(row)


if __name__ == "__main__":
    main()
