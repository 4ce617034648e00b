"""Failures that show in two processes alone are noticed by the claims about two processes; one that dies is
told by its signal, and costs nobody else the answer.
"""

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from hypothesis import settings

from properties.claims.any import test_keeping
from properties.instruments.in_two_processes import MUTANTS, train_with
from properties.judging.assertions import Violation
from properties.judging.claim import load_claims_of_any
from properties.judging.two_processes import check_trained
from properties.subjects import pair
from properties.subjects.pair import DiedError, NoAnswerError, asked, folder

pytestmark = [pytest.mark.instruments, pytest.mark.slow, pytest.mark.distributed]


@pytest.mark.mutation
@pytest.mark.parametrize(
    ("mutant", "match"), [*zip(MUTANTS, ("adapters that differ", "process 1 failed"), strict=True)]
)
def test_a_mutant_that_shows_in_two_processes_is_noticed(mutant: str, match: str) -> None:
    reports = asked(train_with, mutant)
    with pytest.raises(Violation, match=match):
        check_trained(folder() / mutant, MUTANTS[mutant], "lora", reports)


def die(rank: int, folder: Path) -> dict[str, Any]:
    """The second process."""
    if rank == 1:
        os.abort()
    dist.barrier()
    return {}


def count(rank: int, folder: Path) -> dict[str, Any]:
    return {"rank": rank}


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where nothing is judged: from one process with torch in it, whose import takes longer than the rest."""
    monkeypatch.setattr(pair, "START", "forkserver")
    get_context("forkserver").set_forkserver_preload(["torch"])
    yield
    for left in pair._pairs:
        left.end()
    pair._pairs.clear()


@pytest.mark.usefixtures("forked")
def test_one_that_dies_is_told_and_the_next_question_is_answered() -> None:
    for _ in range(2):
        with pytest.raises(DiedError, match="process 1 was killed by SIGABRT"):
            asked(die)
    assert asked(count) == [{"rank": 0}, {"rank": 1}]


def doze(rank: int, folder: Path) -> dict[str, Any]:
    time.sleep(60)
    return {}


@pytest.mark.usefixtures("forked")
def test_one_that_does_not_answer_has_not_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a claim cannot tell from a busy machine."""
    monkeypatch.setattr(pair, "PATIENCE", timedelta(seconds=0.5))
    for _ in range(2):  # it is asked again, and not remembered
        with pytest.raises(NoAnswerError, match="did not answer within 0:00:01"):
            asked(doze)


def test_a_load_that_never_ends_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not left unjudged: once a machine may be busy."""
    tries: list[tuple[Any, ...]] = []

    def hangs(*given: Any) -> list[dict[str, Any]]:
        tries.append(given)
        raise NoAnswerError("two processes did not answer")

    monkeypatch.setattr(test_keeping, "asked", hangs)
    made = load_claims_of_any()["a_fresh_process_loads_what_was_saved"]
    with pytest.raises(Violation, match="without end"):
        made.run("lora_lite:lora", settings(max_examples=1, database=None))
    assert len(tries) % 2 == 0
