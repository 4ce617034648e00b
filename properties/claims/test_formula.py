"""The formula: output and dependence of rows, at parameters away from init."""

from functools import partial

from hypothesis import strategies as st
from torch import nn

from properties.judging.agreement import assert_agrees
from properties.judging.assertions import assert_close, assert_identical
from properties.judging.claim import claim
from properties.judging.expected import expected_output
from properties.judging.peft_layers import expected_by_peft, shared_with_peft
from properties.subjects.attaching import AnyCase, attach, step
from properties.subjects.layer_runs import run_layers
from strategies import AdaptedLayer, AdaptedModel, adapted_layers, trained_layers, trained_models


def check_forward(case: AnyCase) -> None:
    """Its output alone: half the work of assert_agrees, as the oracle does not go backward."""
    for layer in run_layers(attach(case)):
        assert_close(
            layer.y, expected_output(layer), what=f"the output of layer {layer.name}", like="the oracle's"
        )


@claim(trained_layers, stage="forward", needs=("oracle",))
def test_forward_agrees_with_the_oracle(case: AdaptedLayer) -> None:
    """Away from init, where the identity hides nothing."""
    check_forward(case)


@claim(trained_models, stage="forward", needs=("oracle", "transformers"), share=0.3)
def test_forward_in_a_whole_model_agrees_with_the_oracle(case: AdaptedModel) -> None:
    """In every layer of a model, at the input that it got there."""
    check_forward(case)


@claim(shared_with_peft, stage="forward", needs=("peer", "peft"), share=0.5)
def test_agrees_with_peft(case: AdaptedLayer) -> None:
    """The same tensors, input and upstream gradient in peft's own layer: output and every gradient."""
    (layer,) = run_layers(attach(case))
    assert_agrees(layer, expected_by_peft(layer), like="peft's")


@claim(
    partial(
        adapted_layers,
        base_dtypes=("float64", "float32"),
        adapter_dtypes=("float32", "bfloat16", "float16"),
    ),
    stage="forward",
    needs=("oracle",),
)
def test_a_small_step_agrees_with_the_oracle(case: AdaptedLayer) -> None:
    """Of a thousandth, from init: what rounds to nothing, or cancels, where little has moved."""
    attached = attach(case)
    step(attached, 1e-3)
    (layer,) = run_layers(attached)
    assert_agrees(layer, dx=False, where="after a small step")


@claim(trained_layers, stage="forward", share=0.5)
def test_the_output_depends_on_no_earlier_batch(case: AdaptedLayer) -> None:
    """Nothing is measured on the first batch, or kept from it, that the parameters do not hold."""
    alone, after = attach(case).model, attach(case).model
    earlier = after(case.x().flip(-1) * -3).sum()
    if earlier.requires_grad:  # that something learns is for others
        earlier.backward()
    what = "the output after another batch"
    assert_identical(after(case.x()), alone(case.x()), what=what, like="the output without that batch")


def rows(variant: str) -> st.SearchStrategy[AdaptedLayer]:
    """Trained adapters, and batches of more than one token."""
    return trained_layers(variant, tokens=((2,), (3,), (2, 2)))


@claim(rows, stage="forward", share=0.5)
def test_a_row_of_the_output_depends_on_its_row_of_the_input_alone(case: AdaptedLayer) -> None:
    """Another last token changes no bit of what the others give."""
    model: nn.Module = attach(case).model
    x, changed = case.x(), case.x().clone()
    changed.reshape(-1, x.shape[-1])[-1] += 1
    before, after = (model(given).detach().reshape(-1, case.linear.d_out)[:-1] for given in (x, changed))
    what = "the output of the first tokens, once the last one is another,"
    assert_identical(after, before, what=what, like="as before")
