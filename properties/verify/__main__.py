"""`python -m properties.verify BASE ADAPTER`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from properties.verify.judge import verify
from properties.verify.page import page
from properties.verify.report import CANNOT, CannotJudgeError


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where the adapter acts as it claims, 1 where it does not, 2 where that cannot be judged."""
    options = _parser().parse_args(arguments)
    try:
        report = verify(
            options.base, options.adapter, merged=options.merged, text=options.text, kind=options.kind
        )
    except CannotJudgeError as error:
        print(f"CANNOT BE JUDGED: {error}")
        if options.json:
            _write(options.json, {"code": CANNOT, "verdict": f"CANNOT BE JUDGED: {error}"})
        return CANNOT
    print(page(report))
    if options.json:
        _write(options.json, report.to_json())
    return report.code


def _write(path: str, content: object) -> None:
    Path(path).write_text(json.dumps(content, indent=1), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m properties.verify",
        description="Does this adapter act on this base, in every layer, before and after the merge?",
        epilog="Exit code 0: it acts; 1: it does not act as it claims; 2: that cannot be judged.",
    )
    parser.add_argument("base", help="a folder of transformers")
    parser.add_argument("adapter", help="a folder of peft, or a file of lora_lite.save")
    parser.add_argument("--merged", metavar="DIR", help="a merged checkpoint, compared with base + adapter")
    parser.add_argument(
        "--text", metavar="FILE", help="what the model reads, a line at a time (default: our own)"
    )
    parser.add_argument(
        "--class",
        dest="kind",
        metavar="NAME",
        help="of transformers (default: as the adapter's file tells, or else the folder)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the report there")
    return parser


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
