"""What changed of a model is told: most claims that it is as before rest on it."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from properties.judging.assertions import Violation
from properties.judging.snapshot import assert_as_before, snapshot_of

pytestmark = pytest.mark.instruments


def swap_a_hook(model: Any) -> None:
    model[1]._forward_hooks.clear()
    model[1].register_forward_hook(lambda layer, args, y: 0 * y)


CHANGES: dict[str, Callable[[Any], object]] = {
    "identity": lambda model: model[1].register_parameter(
        "bias", nn.Parameter(model[1].bias.detach().clone())
    ),
    "bits": lambda model: model[0].running_mean.neg_(),  # 0 is equal to what it was
    "requires_grad": lambda model: model[1].weight.requires_grad_(False),
    "training": lambda model: model[1].eval(),
    "hooks": swap_a_hook,
    "attributes": lambda model: setattr(model[1], "left", None),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changed_of_a_model_is_told(what: str) -> None:
    """A test of the instrument that most of these claims rest on."""
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4))
    model[1].register_forward_hook(lambda layer, args, y: None)
    before = snapshot_of(model)
    assert_as_before(model, before, claim="at once")
    CHANGES[what](model)
    with pytest.raises(Violation, match=f"^later: {what} changed: [01]"):
        assert_as_before(model, before, claim="later")
