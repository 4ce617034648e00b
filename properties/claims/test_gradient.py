"""What learns at the first step, what does not, and that the values are right."""

from functools import partial

from properties.judging.assertions import assert_close, assert_holds, assert_nonzero, assert_zero
from properties.judging.claim import every_variant
from properties.subjects.lora_lite import implementation
from properties.subjects.observe import AnyCase, expected, has_oracle, observe, subject
from strategies import AdaptedLayer, adapted_layers, adapted_models, trained_layers, trained_models

# A gradient that must not be zero needs an input, and a base dtype in which a small x Wᵀ does not vanish
# beside the bias.
fed = partial(adapted_layers, tokens=((1,), (3,), (2, 2)), base_dtypes=("float32", "float64"))


def check_first_gradients(case: AnyCase) -> None:
    made = subject(case)
    layers = observe(made)
    declared = implementation.first_gradients(made.model)
    for layer in layers:
        for name, gradient in layer.gradients.items():
            claim = f"the first gradient of {layer.name}.{name} is {declared[layer.name][name]}"
            (assert_zero if declared[layer.name][name] == "zero" else assert_nonzero)(gradient, claim=claim)


def check_gradients_agree(case: AnyCase) -> None:
    for layer in observe(subject(case)):
        wanted = expected(layer)
        for name, gradient in layer.gradients.items():
            assert_close(
                gradient, wanted.gradients[name], claim=f"the gradient of {layer.name}.{name} is the oracle's"
            )
        assert_close(layer.dx, wanted.dx, claim=f"the gradient of {layer.name}'s input is the oracle's")


@every_variant(fed)
def test_first_gradients_are_as_declared(case: AdaptedLayer) -> None:
    """Each parameter's first gradient is exactly zero or truly not, as its ParamSpec says."""
    check_first_gradients(case)


@every_variant(adapted_layers, applies=has_oracle)
def test_first_gradients_agree_with_the_oracle(case: AdaptedLayer) -> None:
    """At init, values of every parameter's gradient and of the input's."""
    check_gradients_agree(case)


@every_variant(trained_layers, applies=has_oracle)
def test_gradients_agree_with_the_oracle(case: AdaptedLayer) -> None:
    """Away from init, values of every parameter's gradient and of the input's."""
    check_gradients_agree(case)


@every_variant(trained_models, share=0.3, applies=has_oracle)
def test_gradients_in_a_whole_model_agree_with_the_oracle(case: AnyCase) -> None:
    """In every layer of a model, at the input and the upstream gradient that it got there."""
    check_gradients_agree(case)


@every_variant(adapted_models, share=0.3)
def test_base_gets_no_gradient(case: AnyCase) -> None:
    """After a backward pass adapter parameters alone hold gradients, and each of them does."""
    made = subject(case)
    observe(made)
    own = {
        id(tensor) for tensors in implementation.tensors(made.model).values() for tensor in tensors.values()
    }
    for name, parameter in made.model.named_parameters():
        if id(parameter) in own:
            assert_holds(parameter.grad is not None, claim=f"{name} got no gradient")
        else:
            assert_holds(parameter.grad is None, claim=f"the base parameter {name} got a gradient")
            assert_holds(
                not parameter.requires_grad, claim=f"the base parameter {name} still requires a gradient"
            )
