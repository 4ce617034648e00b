"""Tests of what keeps the garbage collector from walking through all that was imported."""

import gc
import weakref

import pytest
from torch import nn

pytestmark = pytest.mark.instruments


def test_the_collector_does_not_walk_through_what_was_imported() -> None:
    gc.collect()
    assert gc.get_freeze_count() > 10 * len(gc.get_objects())


def test_a_model_that_refers_to_itself_is_still_cleared_away() -> None:
    kept = weakref.ref(_itself())
    gc.collect()
    assert kept() is None


def _itself() -> nn.Module:
    model = nn.Linear(1, 1)
    model.register_forward_hook(lambda *_: model)
    return model
