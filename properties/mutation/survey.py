"""Every mutant of a list against the claims, each in a process that forks from a warm one."""

import math
import multiprocessing
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

from properties.mutation.matrix import AS_BEFORE, applicable, ranked, run_reached
from properties.mutation.mutant import Mutant
from properties.mutation.order import noticed
from properties.mutation.reach import budget, nothing_remembered, reach
from properties.mutation.score import Outcome, State, is_equivalent

STATES: dict[str, State] = {"killed": "killed", "crashed": "loud"}
# Processor seconds after which a mutant hangs, which nobody overlooks; and by the clock so many times more.
DEADLINE, PATIENCE = 180.0, 10
# Of a mutant that many variants show, so many are asked; these first: of outputs, of inputs, with data, one
# that merges into the bias too, and one in the layer's place.
MOST, PILOTS = 5, ("lora", "hra", "antipasto", "ia3", "full")
# So many claims are likely to notice: those that noticed a mutant of the same function or module before.
LIKELY = 20


def judged(mutant: Mutant, *, examples: int, full: int) -> Outcome:
    """The first claim that notices, on any of the variants; first with few examples, then with more."""
    if is_equivalent(mutant.name):
        return Outcome(mutant.name, "equivalent")
    first, *others = showing(mutant)
    asked: set[tuple[str, str | None, int]] = set()
    with nothing_remembered():
        # The second round, with more examples, is long: on the first variant alone.
        for variant, tried in [*((variant, examples) for variant in (first, *others)), (first, full)]:
            for made in ranked(mutant, variant):
                key = (made.name, None, 0) if made.cases is None else (made.name, variant, tried)
                if key in asked:
                    continue
                asked.add(key)
                cell = run_reached(made, mutant, variant, budget(tried, shrink=False))
                if (state := STATES.get(cell.outcome)) and not cell.detail.startswith(AS_BEFORE):
                    return Outcome(mutant.name, state, made.name, variant, cell.detail[:200])
    return Outcome(mutant.name, "survived")


@nothing_remembered()
def killers(mutant: Mutant, *, examples: int, full: int, everything: bool) -> list[str]:
    """Two claims that notice on the first variant, or the one that does alone; nothing where only
    `everything` would tell, every claim that runs the changed code, and is not asked for.

    The likely ones have all examples before one is said to be alone, the others a few, as in the matrix.
    """
    variant, found = mutant.applies_to[0], dict[str, None]()
    claims = ranked(mutant, variant, noticed(mutant.targets))
    likely, others = claims[:LIKELY], claims[LIKELY:]
    rest = [(likely, full), (others, examples)] if everything else []
    for claims, tried in [(likely, examples), *rest]:
        for made in (claim for claim in claims if claim.name not in found):
            if run_reached(made, mutant, variant, budget(tried, shrink=False)).outcome == "killed":
                found[made.name] = None
            if len(found) == 2:
                return list(found)
    return list(found) if everything else []


def showing(mutant: Mutant) -> list[str]:
    """The variants on which to ask: those of which a drawn case runs the changed code."""
    drawn = {v: [claim for claim in applicable(v) if claim.cases] for v in mutant.applies_to}
    running = [v for v, claims in drawn.items() if any(mutant.reached & reach(c, v).code for c in claims)]
    return sorted(running or mutant.applies_to, key=lambda v: v not in PILOTS)[:MOST]


def warm(variants: Iterable[str]) -> None:
    """Measure what each claim runs, once for all the processes that fork from this one."""
    for variant in variants:
        for made in applicable(variant):
            reach(made, variant)


def survey(
    mutants: Iterable[Mutant], judge: Callable[[Mutant], Any], *, jobs: int = 1, deadline: float = DEADLINE
) -> Iterator[Any]:
    """What `judge` says of each mutant, as it is known; a process that ends without a word is loud."""
    fork = multiprocessing.get_context("fork")
    waiting, running = iter(mutants), dict[Any, tuple[Any, Mutant, float]]()
    while True:
        while len(running) < jobs and (mutant := next(waiting, None)):
            ours, theirs = fork.Pipe(duplex=False)
            process = fork.Process(target=_tell, args=(judge, mutant, theirs, deadline))
            process.start()
            theirs.close()
            running[ours] = (process, mutant, time.monotonic())
        if not running:
            return
        for ready in wait(list(running), timeout=1.0):
            process, mutant, _ = running.pop(ready)
            yield _heard(ready, process, mutant)
        for ours, (process, mutant, began) in list(running.items()):
            if time.monotonic() - began > PATIENCE * deadline:
                del running[ours]
                process.kill()
                process.join()
                yield Outcome(mutant.name, "loud", detail="hangs", seconds=deadline)


def _tell(judge: Callable[[Mutant], Any], mutant: Mutant, theirs: Connection, deadline: float) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + deadline),) * 2)
    began, outcome = time.perf_counter(), judge(mutant)
    timed = isinstance(outcome, Outcome)
    theirs.send(replace(outcome, seconds=time.perf_counter() - began) if timed else outcome)


def _heard(ours: Any, process: Any, mutant: Mutant) -> Any:
    try:
        return ours.recv()
    except EOFError:
        process.join()
        hangs = process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        return Outcome(mutant.name, "loud", detail="hangs" if hangs else "the process ended without a word")
    finally:
        process.join()
