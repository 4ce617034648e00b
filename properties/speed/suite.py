"""What the suite itself costs: examples a second, the first kill of each mutant, whole runs, and shards that
share a search.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from hypothesis import Phase, core, settings

import lora_lite as ll
from properties.judging.assertions import Violation
from properties.judging.claim import Claim, load_claims
from properties.judging.profiles import register_profiles
from properties.mutation import CATALOGUE, load_catalogue
from properties.mutation.matrix import run_row
from properties.mutation.mutant import Mutant

# The whole runs whose time counts, as arguments of pytest.
RUNS: dict[str, tuple[str, ...]] = {
    "collection": ("properties", "--collect-only", "-q"),
    "one variant, cold": ("properties", "--variant", "lora"),
    "all but mutation": ("properties", "-m", "not mutation"),
    "mutation, first kills": ("properties", "-k", "test_mutant_is_killed"),
    "mutation, whole matrix": ("properties", "--matrix", "-k", "test_mutant_is_killed"),
    "everything": ("properties",),
}
# A mutant that shows in few of the drawn cases, the property that sees it, and a variant.
RARE = ("detach_forgets_what_the_user_thawed", "a_life_leaves_every_model_as_it_should_be", "lora")


def in_process() -> None:
    """Profiles and catalogue as pytest would have them."""
    torch.set_num_threads(1)
    register_profiles()
    settings.load_profile("ci")
    load_catalogue()


def lines(runs: Iterable[str], workers: Sequence[int]) -> Iterator[str]:
    """Everything, line by line as it is measured."""
    in_process()
    yield from rates(60)
    yield from first_kills(60)
    yield from shards(*RARE)
    yield from whole_runs(runs, workers)


def rates(examples: int) -> Iterator[str]:
    """Examples a second of each property about a single layer, over all variants, in this process."""
    yield f"{'property':60} examples/s of processor time"
    total = seconds = 0.0
    for made in load_claims().values():
        if made.cases is None or made.share < 1:
            continue
        ran, took = rate(made, examples)
        total, seconds = total + ran, seconds + took
        yield f"{made.name:60} {ran / took:.0f}"
    yield f"{'together':60} {total / seconds:.0f}"


def rate(made: Claim, examples: int) -> tuple[int, float]:
    """Examples run and processor seconds taken, caches warm."""
    variants = [name for name, kind in ll.VARIANTS.items() if made.standing(kind).state is None]
    for variant in variants:
        made.run(variant, settings(max_examples=5))
    began, ran = time.process_time(), 0
    for variant in variants:
        ran += made.run(variant, settings(max_examples=examples)).examples
    return ran, time.process_time() - began


def first_kills(count: int) -> Iterator[str]:
    """Seconds until some property notices a mutant, over every so many-th mutant of the catalogue; nothing is
    shrunk.
    """
    caught = [mutant for mutant in CATALOGUE.values() if mutant.equivalent is None]
    chosen = caught[:: max(1, len(caught) // count)]
    took = []
    for mutant in chosen:
        began = time.perf_counter()
        run_row(
            mutant, examples=max(1, settings().max_examples // 10), full=settings().max_examples, whole=False
        )
        took.append((time.perf_counter() - began) / len(mutant.applies_to))
    low, middle, high = statistics.quantiles(took, n=4)
    share = f"{len(took)} of {len(caught)} mutants"
    yield f"first kill, shrunk, of {share}, a variant: median {middle:.2f} s [{low:.2f} {high:.2f}]"


@dataclass(frozen=True)
class WholeRun:
    """A run of pytest in processes of its own."""

    name: str
    workers: int
    seconds: float
    last_line: str


def whole_run(name: str, workers: int) -> WholeRun:
    """Time one of RUNS on so many workers, imports and start of the workers included."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *RUNS[name]]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "-n", str(workers)], capture_output=True, text=True, env={**os.environ, "CI": "true"}
    )
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
    return WholeRun(
        name, workers, time.perf_counter() - began, lines[-1] if lines else f"exit code {done.returncode}"
    )


def whole_runs(names: Iterable[str], workers: Sequence[int]) -> Iterator[str]:
    """Each run at each number of workers, and how much faster the last is than the first."""
    for name in names:
        found = [whole_run(name, n) for n in workers]
        for run in found:
            yield f"{name:24} {run.workers} workers  {run.seconds:7.1f} s   {run.last_line}"
        if len(found) > 1:
            yield (
                f"{'':24} {found[0].seconds / found[-1].seconds:.2f} times faster with {workers[-1]} than"
                f" with {workers[0]}"
            )


def examples_until_found(made: Claim, mutant: Mutant, variant: str, number: int, most: int) -> int:
    """Examples that a run from this seed needs to notice the mutant; `most` where it does not."""
    budget = settings(max_examples=most, database=None, phases=[Phase.generate], derandomize=False)
    core.global_force_seed = number  # type: ignore[assignment]  # what --hypothesis-seed sets
    try:
        with mutant.injected():
            made.run(variant, budget)
    except Violation as violation:
        return violation.examples or most
    finally:
        core.global_force_seed = None
    return most


def shards(name: str, claim: str, variant: str, *, seeds: int = 24, most: int = 400) -> Iterator[str]:
    """The examples until the first of P shards finds a rare failure, each shard with a seed of its own.

    Shards share nothing while they search, so that the first of P finds it when the quickest of P seeds does:
    the mean least of P draws from the measured ones. The database makes every later run of every shard start
    with what was found.
    """
    made, mutant = load_claims()[claim], load_catalogue()[name]
    needed = sorted(examples_until_found(made, mutant, variant, number, most) for number in range(seeds))
    yield f"{name} by {claim}: {needed} examples from {seeds} seeds, at most {most}"
    for count in (1, 2, 4, 8, 16):
        low = "at least " if needed[-1] == most else ""  # some seed looked no further
        yield (
            f"  {count:2} shards: the first finds it after {low}{least_of(needed, count):.1f} examples on"
            " average"
        )


def least_of(ordered: Sequence[int], count: int) -> float:
    """The expected least of `count` draws with replacement from these values, given in ascending order."""
    n = len(ordered)
    return sum(
        value * (((n - i) / n) ** count - ((n - i - 1) / n) ** count) for i, value in enumerate(ordered)
    )
