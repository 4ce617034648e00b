"""Each adapter learns through the path that it claims, nothing else moves, and what was learnt survives a
reload.
"""

from functools import partial

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from properties.judging.agreement import round_trip
from properties.judging.assertions import Violation, assert_holds, assert_identical
from properties.judging.claim import claim
from properties.judging.outcome import NotJudgedError, show
from properties.judging.own_formula import its_formula
from properties.probe import measures
from properties.probe.measurements import MEASUREMENTS
from properties.probe.models import bench
from properties.probe.planted import left
from properties.probe.record import to_json
from properties.probe.steps import order
from properties.probe.training import Loss, fit, relative
from properties.probe.trial import PACE, Trial
from properties.subjects import subject
from properties.subjects.attaching import AnyCase, attach
from properties.subjects.layer_runs import default_run
from properties.subjects.protocol import adapter_dtype
from strategies import AdaptedLayer, AdaptedModel, adapted_layers, adapted_models, gaussian
from strategies.models import FULL_RANK

STEPS = 3
# Where rows of W are not zero, inputs not empty and directions not on a line, every entry has something to
# do.
busy = partial(adapted_layers, tokens=((3,), (2, 2)), weights=FULL_RANK, base_dtypes=("float32", "float64"))


# Of at least four inputs and outputs, where a variant takes such.
roomy = partial(busy, least=4)


def loss_of(case: AnyCase) -> Loss:
    """The distance from some other output."""
    run = default_run(case)

    def loss(model: torch.nn.Module) -> torch.Tensor:
        output = run(model)
        return (output.float() - gaussian(case.seed, "wanted", tuple(output.shape))).square()

    return loss


def inputs_of(case: AdaptedLayer) -> dict[str, torch.Tensor]:
    return {"0": case.x().reshape(-1, case.linear.d_in)}


@claim(adapted_models, stage="training", needs=("transformers",), share=0.1)
def test_only_the_adapter_trains(case: AdaptedModel) -> None:
    """An optimiser gets all that requires a gradient: base tensors keep their bits and get none; a leak would
    be seen.
    """
    attached = attach(case)
    touched = measures.train_what_requires_a_gradient(attached, loss_of(case), STEPS)
    found = f"{STEPS} steps of AdamW changed, or gave a gradient to, {touched} of the base"
    assert_holds(not touched, claim=found)


@claim(partial(roomy, adapter_dtypes=("float32", "float64")), stage="training", share=0.3)
def test_every_row_of_a_parameter_matters(case: AdaptedLayer) -> None:
    """Away from init, each rank row, rotation block, gate entry and feature's column moves the output by more
    than rounding.
    """
    ratio, name = measures.weakest_row(attach(case), inputs_of(case))
    found = f"{name} moves the output by {ratio:.3g} times what rounding may, wanted more than that"
    assert_holds(ratio > 1, claim=found)


@claim(partial(roomy, adapter_dtypes=("float32", "bfloat16", "float16")), stage="training", share=0.3)
def test_every_entry_moves_in_every_dtype(case: AdaptedLayer) -> None:
    """A few steps of AdamW move each of them."""
    made = attach(case)
    still = measures.unmoved(made, loss_of(case), inputs_of(case))
    eps = torch.finfo(adapter_dtype(case)).eps
    why = (
        f"; numbers near 1 are {eps:.2g} apart, and steps of {measures.RATE} move none: let a constant start"
        " at 0, and add it, or declare where it is not so: ll.Deviation"
        if eps > measures.RATE
        else ""
    )
    found = f"{measures.patience(made)} steps of AdamW did not move {still} (entries by parameter){why}"
    assert_holds(not still, claim=found)


@claim(partial(roomy, adapter_dtypes=("float32",)), stage="training", share=0.1)
def test_a_planted_target_is_recovered(case: AdaptedLayer) -> None:
    """Trained on what the layer gives with other parameters it gets as near as its formula does in float64,
    by the same optimiser.
    """
    x = gaussian(case.seed, "read", (32, case.linear.d_in), case.base_dtype)
    got = left(attach(case), x)
    most = got.formula + got.error
    found = (
        f"training leaves {got.layer:.3g} of the distance to the planted output, wanted {most:.3g} at most:"
        f" {its_formula(case.variant)} is {got.formula:.3g}"
    )
    assert_holds(got.layer <= most, claim=found)


@claim(partial(roomy, adapter_dtypes=("float64",), base_dtypes=("float64",)), stage="training", share=0.3)
def test_a_small_first_step_is_a_small_change(case: AdaptedLayer) -> None:
    """O(ε) for an optimiser step of size ε, but where the variant declares a jump, and then it is one."""
    found = order(attach(case), loss_of(case), default_run(case))
    small = subject.continuous(case)
    wanted = "changes in proportion" if small else "a jump, as is declared"
    assert_holds(found.continuous if small else found.jumps, claim=f"{found}, wanted {wanted}")


def steady_models(variant: str) -> SearchStrategy[AdaptedModel]:
    """Models that training does not make overflow, as it may in float16: what diverged is not saved."""
    cases = adapted_models(variant, adapter_dtypes=("float32", "float64"))
    return cases.filter(lambda case: case.model.dtype != "float16")


@claim(steady_models, stage="load", needs=("transformers",), share=0.1)
def test_reload_keeps_what_training_gave(case: AdaptedModel) -> None:
    """After real steps, whatever the forward passes of training left behind: the reloaded model gives the
    same bits.
    """
    model, run = attach(case).model, default_run(case)
    fit(model, loss_of(case), relative(model, PACE), STEPS)
    what, like = "the output of the reloaded model", "that of the trained one"
    assert_identical(run(round_trip(model, case.build())), run(model), what=what, like=like)


def check_training(variant: str, model: str) -> None:
    """Every assertion of the probe; its figures go to the audit."""
    trial = Trial(bench(model), variant)
    if trial.refused:
        raise NotJudgedError(f"{variant} does not take every layer of {model}: {trial.refused}")
    records = [record for assertion in MEASUREMENTS.values() for record in assertion.records(trial)]
    show(probe=to_json(records))
    if failed := [str(record) for record in records if not record.holds]:
        raise Violation("\n".join(failed))


@claim(st.just, stage="training", needs=("transformers",), slow=True)
def test_training_on_tiny_qwen3(variant: str) -> None:
    """A two-layer decoder with random weights, trained through every linear layer of it."""
    check_training(variant, "tiny-qwen3")


@claim(st.just, stage="training", needs=("transformers", "minilm"), slow=True)
def test_training_on_minilm(variant: str) -> None:
    """A real encoder of six layers."""
    check_training(variant, "minilm")
