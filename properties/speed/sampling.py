"""Times one function against another, sample by sample, on a machine that others use too."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from strategies.tensors import device

Call = Callable[[], object]

SAMPLES = 12
# Long enough that the clock and the loop do not show.
SECONDS = 2e-3
# A call of so many seconds needs no warm caches: a core fills 32 MiB in some 5 ms, 1 % of it at most.
LONG = 0.5
# A base sample this much slower than the usual one was disturbed, and so may be the samples next to it.
DISTURBED = 1.25


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles of time over base time; how many samples they come from and how many were dropped.

    milliseconds: of one call, median; base_milliseconds: of one call of the base.
    """

    ratio: float
    q1: float
    q3: float
    samples: int
    dropped: int
    milliseconds: float
    base_milliseconds: float


@dataclass(frozen=True)
class Sample:
    """Seconds a call, and of the base right before and right after."""

    before: float
    seconds: float
    after: float


def undisturbed(samples: Sequence[Sample]) -> list[Sample]:
    """The samples between two base samples that are both near the median of all base samples."""
    limit = DISTURBED * statistics.median(
        base for sample in samples for base in (sample.before, sample.after)
    )
    return [sample for sample in samples if max(sample.before, sample.after) <= limit]


def ratio_of(samples: Sequence[Sample]) -> Ratio:
    """Each sample is divided by the mean of its two neighbours."""
    kept = undisturbed(samples)
    ratios = [2 * sample.seconds / (sample.before + sample.after) for sample in kept]
    q1, median, q3 = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(
        ratio=median,
        q1=q1,
        q3=q3,
        samples=len(kept),
        dropped=len(samples) - len(kept),
        milliseconds=1e3 * statistics.median(sample.seconds for sample in kept),
        base_milliseconds=1e3 * statistics.median((sample.before + sample.after) / 2 for sample in kept),
    )


def standing(ours: Ratio, theirs: Ratio) -> str:
    """Who takes less time: "ahead" is ours, "behind" theirs, "tie" where their quartiles overlap."""
    if ours.q3 < theirs.q1:
        return "ahead"
    return "behind" if ours.q1 > theirs.q3 else "tie"


def compare(base: Call, candidates: dict[str, Call], samples: int = SAMPLES) -> dict[str, Ratio]:
    """Each candidate's time over base's: base, first candidate, base, second candidate, … until each has
    `samples` undisturbed.

    Gives up on a machine that is too busy: after four times as many samples the table says how few were left.
    """
    turns = {name: _turn(call) for name, call in {"": base, **candidates}.items()}
    taken: dict[str, list[Sample]] = {name: [] for name in candidates}
    gc.collect()
    gc.disable()
    try:
        before = turns[""]()
        for _ in range(4 * samples):
            for name in candidates:
                seconds = turns[name]()
                after = turns[""]()
                taken[name].append(Sample(before, seconds, after))
                before = after
            if all(len(undisturbed(own)) >= samples for own in taken.values()):
                break
    finally:
        gc.enable()
    return {name: ratio_of(own) for name, own in taken.items()}


def _turn(call: Call) -> Callable[[], float]:
    """Seconds a call, of as many calls as make a sample of SECONDS; warms up on the way."""
    call()
    count = 1
    while (seconds := count * _time(call, count, warm=True)) < SECONDS:
        count = max(count + 1, round(1.2 * count * SECONDS / max(seconds, SECONDS / 100)))
    return partial(_time, call, count, warm=seconds < LONG)


def _time(call: Call, count: int, *, warm: bool) -> float:
    """Seconds a call. warm: after one that nobody times."""
    clock = _clock()
    if warm:
        call()  # what ran before, a slow candidate above all, has filled the caches with its own
    _finish()
    began = clock()
    for _ in range(count):
        call()
    _finish()
    return (clock() - began) / count


def _clock() -> Callable[[], float]:
    """With one thread on the CPU the processor time of this process, in which other processes' turns do not
    count.
    """
    alone = torch.get_num_threads() == 1 and device().type == "cpu"
    return time.process_time if alone else time.perf_counter


def _finish() -> None:
    """What was launched on an accelerator has run."""
    if device().type == "cuda":
        torch.cuda.synchronize()
