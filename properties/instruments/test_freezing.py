"""Tests of what keeps the garbage collector from walking through all that was imported."""

import gc
import weakref

import pytest
import torch
from torch import nn

from properties.freezing import OFTEN, Freezing

pytestmark = pytest.mark.instruments


def test_the_collector_does_not_walk_through_what_was_imported() -> None:
    assert all(walked is not vars(torch) for walked in gc.get_objects())


def test_what_is_kept_of_tests_is_frozen_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[int] = []
    freezing = Freezing()
    freezing.freeze()
    monkeypatch.setattr(freezing, "freeze", lambda: frozen.append(freezing.tests))
    for _ in range(2 * OFTEN + 1):
        freezing.pytest_runtest_logfinish()
    assert frozen == [OFTEN, 2 * OFTEN]


def test_a_model_that_refers_to_itself_is_still_cleared_away() -> None:
    kept = weakref.ref(_itself())
    gc.collect()
    assert kept() is None


def _itself() -> nn.Module:
    model = nn.Linear(1, 1)
    model.register_forward_hook(lambda *_: model)
    return model
