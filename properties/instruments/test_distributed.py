"""Failures that show in two processes alone are noticed by the claims about two processes."""

import pytest

from properties.judging.assertions import Violation
from properties.judging.two_processes import check_trained
from properties.subjects.processes import MUTANTS, two_processes

pytestmark = [pytest.mark.instruments, pytest.mark.slow, pytest.mark.distributed, pytest.mark.mutation]


@pytest.mark.parametrize(
    ("mutant", "match"), [*zip(MUTANTS, ("adapters that differ", "process 1 failed"), strict=True)]
)
def test_a_mutant_that_shows_in_two_processes_is_noticed(mutant: str, match: str) -> None:
    folder, reports = two_processes()
    with pytest.raises(Violation, match=match):
        check_trained(folder / mutant, MUTANTS[mutant], "lora", [found[mutant]["lora"] for found in reports])
