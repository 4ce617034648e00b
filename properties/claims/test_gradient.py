"""What learns at the first step, what does not, and that the values are right."""

from functools import partial
from typing import Any

import torch

from properties.judging.agreement import (
    assert_agrees,
    assert_first_gradients,
    assert_only_adapters_have_gradients,
)
from properties.judging.assertions import assert_close
from properties.judging.claim import claim
from properties.judging.differences import difference
from properties.judging.outcome import declare
from properties.judging.stops import UNNAMED, holding, stops_of
from properties.subjects import subject
from properties.subjects.attaching import AnyCase, attach
from properties.subjects.layer_runs import run_layers
from strategies import (
    AdaptedLayer,
    AdaptedModel,
    adapted_layers,
    adapted_models,
    gaussian,
    trained_layers,
    trained_models,
)
from strategies.models import FULL_RANK

# A gradient that must not be zero needs an input, and a base dtype in which a small x Wᵀ does not vanish
# beside the bias.
fed = partial(adapted_layers, tokens=((1,), (3,), (2, 2)), base_dtypes=("float32", "float64"))


def check_gradients_agree(case: AnyCase) -> None:
    for layer in run_layers(attach(case)):
        assert_agrees(layer, output=False)


@claim(fed, stage="gradient")
def test_first_gradients_are_as_declared(case: AdaptedLayer) -> None:
    """Each parameter's first gradient is exactly zero or truly not, as its ParamSpec says."""
    attached = attach(case)
    assert_first_gradients(attached, run_layers(attached))


@claim(adapted_layers, stage="gradient", needs=("oracle",))
def test_first_gradients_agree_with_the_oracle(case: AdaptedLayer) -> None:
    """At init, values of every parameter's gradient and of the input's."""
    check_gradients_agree(case)


@claim(trained_layers, stage="gradient", needs=("oracle",))
def test_gradients_agree_with_the_oracle(case: AdaptedLayer) -> None:
    """Away from init, values of every parameter's gradient and of the input's."""
    check_gradients_agree(case)


@claim(trained_models, stage="gradient", needs=("oracle", "transformers"), share=0.3)
def test_gradients_in_a_whole_model_agree_with_the_oracle(case: AdaptedModel) -> None:
    """In every layer of a model, at the input and the upstream gradient that it got there."""
    check_gradients_agree(case)


@claim(adapted_models, stage="gradient", needs=("transformers",), share=0.3)
def test_base_gets_no_gradient(case: AdaptedModel) -> None:
    """After a backward pass adapter parameters alone hold gradients, and each of them does."""
    attached = attach(case)
    run_layers(attached)
    assert_only_adapters_have_gradients(attached.model)


exact = partial(
    trained_layers,
    tokens=((1,), (3,), (2, 2)),
    weights=FULL_RANK,
    base_dtypes=("float64",),
    adapter_dtypes=("float64",),
)


@claim(exact, stage="gradient", share=0.3)
def test_the_gradient_is_that_of_the_output(case: AdaptedLayer) -> None:
    """Of each trained tensor and of the input, along a random direction: by differences of the layer's own
    output, so that it needs no oracle. Where it stops by declaration, what stops it is held as it is.
    """
    model: Any = attach(case).model
    x = case.x().requires_grad_()
    upstream = case.upstream(model(x).shape)
    (own,) = subject.tensors(model).values()
    stops = stops_of(subject.laws(case), subject.owner(case))
    live = {name: p for name, p in own.items() if p.requires_grad and stops.get(name) != UNNAMED}
    if len(live) < sum(p.requires_grad for p in own.values()):
        declare("a gradient stops, and no method is named that gives what is constant for it")
    tensors = {"the input": x, **live}
    gradients = torch.autograd.grad((model(x) * upstream).sum(), list(tensors.values()), allow_unused=True)
    for (name, tensor), gradient in zip(tensors.items(), gradients, strict=True):
        direction = gaussian(case.seed, f"direction {name}", tuple(tensor.shape), tensor.dtype)
        slope = torch.zeros((), dtype=x.dtype) if gradient is None else (gradient * direction).sum()
        with holding(stops.get(name), lambda: (model(x) * upstream).double()) as output:
            wanted = difference(output, tensor, direction)
        what, like = f"the gradient of {name}", "that of the layer's own output"
        assert_close(slope, wanted, what=what, like=like)
