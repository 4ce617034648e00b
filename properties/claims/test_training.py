"""Each adapter learns through the path that it claims, nothing else moves, and what was learnt survives a
reload.
"""

from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from properties.judging.agreement import round_trip
from properties.judging.assertions import Violation, assert_holds, assert_identical, claim_is_about
from properties.judging.claim import claim
from properties.judging.outcome import show
from properties.probe import measures
from properties.probe.measurements import HALF_ORDER, MEASUREMENTS, PLANTED, RECOVERED
from properties.probe.models import bench
from properties.probe.record import to_json
from properties.probe.training import Loss, fit, relative
from properties.probe.trial import PACE, Trial
from properties.subjects import subject
from properties.subjects.attaching import AnyCase, attach
from properties.subjects.layer_runs import default_run
from properties.subjects.protocol import adapter_dtype
from strategies import AdaptedLayer, AdaptedModel, adapted_layers, adapted_models, gaussian
from strategies.models import FULL_RANK

STEPS = 3
# Until every entry has moved, which most do at the second step.
PATIENCE = 12
# Where rows of W are not zero, inputs not empty and directions not on a line, every entry has something to
# do.
busy = partial(adapted_layers, tokens=((3,), (2, 2)), weights=FULL_RANK, base_dtypes=("float32", "float64"))


def roomy(variant: str, **ingredients: Any) -> Any:
    """busy layers of at least four inputs and outputs."""
    return busy(variant, **ingredients).filter(lambda case: min(case.linear.d_in, case.linear.d_out) >= 4)


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
    still = measures.unmoved(attach(case), loss_of(case), inputs_of(case), PATIENCE)
    eps = torch.finfo(adapter_dtype(case)).eps
    why = (
        f"; numbers near 1 are {eps:.2g} apart: a constant starts at 0, and is added"
        if eps > measures.RATE
        else ""
    )
    assert_holds(
        not still, claim=f"{PATIENCE} steps of AdamW did not move {still} (entries by parameter){why}"
    )


@claim(partial(roomy, adapter_dtypes=("float32",)), stage="training", share=0.1)
def test_a_planted_target_is_recovered(case: AdaptedLayer) -> None:
    """Trained on what the layer gives with other parameters it gets most of the way, unless its init is
    declared to jump.
    """
    # In the check and not in the strategy: the same recipe must mean the same whatever the library declares.
    claim_is_about(subject.continuous(case))
    x = {"0": gaussian(case.seed, "read", (32, case.linear.d_in), case.base_dtype)}
    # A layer gets there in the first round or two, a whole model may take more.
    share, _ = measures.recovered(attach(case), x, **{**PLANTED, "rounds": 2})
    found = f"training closes {share:.3f} of the gap to the planted output, wanted more than {RECOVERED}"
    assert_holds(share > RECOVERED, claim=found)


@claim(partial(roomy, adapter_dtypes=("float32", "float64")), stage="training", share=0.3)
def test_a_small_first_step_is_a_small_change(case: AdaptedLayer) -> None:
    """O(ε) for an optimiser step of size ε, but where the variant declares a jump, and then it is one."""
    p, changes = measures.order(attach(case), loss_of(case), default_run(case))
    small = subject.continuous(case)
    wanted = "changes in proportion" if small else "a jump, as is declared"
    found = f"steps of 1e-2, 1e-3, 1e-4 change the output by {changes}, wanted {wanted}"
    assert_holds((p > HALF_ORDER) == small, claim=found)


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
