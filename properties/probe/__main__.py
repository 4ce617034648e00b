"""What properties/probe/measurements.py measures, on a model at hand: `python -m properties.probe --model
minilm --variant lora`.
"""

import argparse
import sys
from collections.abc import Sequence

import torch
from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no types

import lora_lite as ll
from properties.probe.measurements import MEASUREMENTS
from properties.probe.models import UnknownModelError, bench
from properties.probe.record import Record, table
from properties.probe.trial import Trial
from properties.subjects.users import import_variants
from strategies.tensors import set_device

FAILED, UNUSABLE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every claim holds, 1 where one fails, 2 where the model or a variant cannot be probed."""
    options = _parser().parse_args(arguments)
    try:
        for module in options.variant_module:
            import_variants(module)
        if options.steps < 1:
            raise ll.ConfigError(f"--steps: found {options.steps}, wanted 1 or more.")
        set_device(options.device)
        of = bench(options.model, options.seed)
        variants = _variants(options.variant)
        records = _probe([Trial(of, variant, options.steps, options.seed) for variant in variants])
    except (UnknownModelError, ll.LoraLiteError, RuntimeError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return UNUSABLE
    print(table(records))
    failed = [record for record in records if not record.holds]
    print(
        f"\n{len(records) - len(failed)} of {len(records)} figures as claimed, {len(variants)} variants on"
        f" {options.model}."
    )
    for record in failed:
        print(f"FAILS [{record.variant}] {record}")
    return FAILED if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m properties.probe", description="Does it learn through the path it claims?"
    )
    parser.add_argument(
        "--model",
        required=True,
        help="tiny-qwen3, minilm, or a transformers checkpoint: a path or a cached name",
    )
    parser.add_argument("--variant", action="append", help="only this variant (repeatable)")
    parser.add_argument(
        "--variant-module", action="append", default=[], metavar="MODULE", help="import it first (repeatable)"
    )
    parser.add_argument(
        "--steps", type=int, default=Trial.steps, help="of each training run (default %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="where everything is built, for example cuda")
    parser.add_argument("--seed", type=int, default=0, help="of the inits, the text and the random steps")
    return parser


def _variants(wanted: list[str] | None) -> list[str]:
    if unknown := sorted(set(wanted or ()) - set(ll.VARIANTS)):
        raise ll.ConfigError(f"--variant: no variant {', '.join(unknown)}; known: {', '.join(ll.VARIANTS)}.")
    return wanted or list(ll.VARIANTS)


def _probe(trials: list[Trial]) -> list[Record]:
    records = []
    with tqdm(total=len(trials) * len(MEASUREMENTS), unit="claim", file=sys.stderr) as bar:
        while trials:
            trial = trials.pop(0)  # a trial holds a copy of the model: let go of it
            _ = trial.made  # a model that takes no adapter is no failed claim
            for claim in MEASUREMENTS.values():
                bar.set_description(f"{trial.variant}: {claim.name}")
                records += claim.records(trial)
                bar.update()
    return records


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
