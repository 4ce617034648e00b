"""A deep copy and a state dict carry the whole adapted model."""

import copy
import dataclasses

import torch

from properties.judging.assertions import assert_identical
from properties.judging.claim import claim
from properties.subjects import subject
from properties.subjects.attaching import Attached, attach, train
from properties.subjects.layer_runs import default_run
from strategies import AdaptedModel, trained_models


@claim(trained_models, stage="attach", needs=("transformers",), share=0.3, capability="deepcopy")
def test_a_deep_copy_is_independent(case: AdaptedModel) -> None:
    """Bit-equal at first; trained on, it leaves the original alone and gives what its own parameters say."""
    made = attach(case)
    run = default_run(case)
    before = run(made.model).detach()
    twin = copy.deepcopy(made.model)
    assert_identical(run(twin), before, what="the copy's output", like="the original's")
    train(Attached(case, twin, made.base, made.initial))
    after = run(twin).detach()
    what = "the output of the original after its copy was trained"
    assert_identical(run(made.model), before, what=what, like="as before")
    made.model.load_state_dict(twin.state_dict())
    what = "the output of the original, given the copy's parameters,"
    assert_identical(run(made.model), after, what=what, like="the copy's")
    subject.detach(twin)
    what = "the output of the original after its copy was detached"
    assert_identical(run(made.model), after, what=what, like="as before")


@claim(trained_models, stage="save", needs=("transformers",), share=0.3)
def test_a_state_dict_carries_the_whole_adapted_model(case: AdaptedModel) -> None:
    """Into another base with a fresh adapter of the same config: bit-equal output."""
    made = attach(case)
    other = attach(dataclasses.replace(case, trained=False))
    with torch.no_grad():
        for tensor in other.model.state_dict().values():
            tensor.zero_()
    other.model.load_state_dict(made.model.state_dict())
    run = default_run(case)
    what, like = "the output of a model that was given the state dict", "that of the model it came from"
    assert_identical(run(other.model), run(made.model).detach(), what=what, like=like)
