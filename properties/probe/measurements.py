"""What training must do, each measurement with the silent failure that it is there for: for command line,
pytest and the audit.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

import lora_lite as ll
from properties.judging.agreement import round_trip
from properties.judging.declared import deviation_at as declared_for
from properties.probe import measures, steps
from properties.probe.coverage import try_paths
from properties.probe.record import Record, Relation
from properties.probe.training import initial, restore
from properties.probe.trial import PERCENTILE, Trial
from properties.subjects import subject
from strategies.options import own_options

# One figure: what it is of, the value, how it must stand to the bound, and why.
Figure = tuple[str, float, Relation, float, str]
Check = Callable[[Trial], Iterator[Figure]]

FEW_STEPS = 3
# Each rank row and rotation block of the bench's adapters alone, and features in so many runs.
RUNS = 16


@dataclass(frozen=True)
class Measurement:
    """name; catches: the silent failure that it is there for; check: its figures on one variant and model.

    stays: why it is kept where no mutant is known that it alone notices.
    """

    name: str
    catches: str
    check: Check
    stays: str = ""

    def records(self, trial: Trial) -> list[Record]:
        """Its figures. What the library refuses on the way is a figure too, and no number."""
        records = []
        try:
            for what, value, relation, bound, why in self.check(trial):
                about = f"{self.name}: {what}", trial.variant, trial.bench.name
                records.append(Record(*about, float(value), relation, float(bound), why))
        except ll.LoraLiteError as error:
            why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            records.append(
                Record(f"{self.name}: raised", trial.variant, trial.bench.name, math.nan, "≤", 0.0, why)
            )
        return records


MEASUREMENTS: dict[str, Measurement] = {}


def measurement(catches: str, *, stays: str = "") -> Callable[[Check], Check]:
    """Register a check under its name."""

    def decorate(check: Check) -> Check:
        name = check.__name__.replace("_", " ")
        MEASUREMENTS[name] = Measurement(name, catches, check, stays)
        return check

    return decorate


@measurement("the base trains along, or a training loop that takes what requires a gradient gets part of it")
def only_the_adapter_trains(trial: Trial) -> Iterator[Figure]:
    touched = measures.train_what_requires_a_gradient(trial.made, trial.loss, FEW_STEPS)
    why = f"base tensors changed or with a gradient after {FEW_STEPS} steps of AdamW on all that requires one"
    yield "base tensors touched", len(touched), "≤", 0, f"{why}{_first(touched)}"
    with measures.leaked(trial.made) as name:
        touched = measures.train_what_requires_a_gradient(trial.made, trial.loss, FEW_STEPS)
    yield "a leak is seen", len(touched), ">", 0, f"the same count with {name} leaked on purpose"


def _first(names: list[str]) -> str:
    return f": {', '.join(names[:3])}" if names else ""


@measurement(
    "a parameter, rank row or rotation block that is saved, counted and trained, and that no output"
    " depends on"
)
def every_parameter_matters(trial: Trial) -> Iterator[Figure]:
    least, name = measures.weakest_target(trial.made, trial.run)
    yield "weakest target", least, ">", 1, f"effect of {name} on the model's output over that of rounding"
    inputs = {target: x[:8] for target, x in trial.inputs(trial.bench.held_out).items()}
    least, name = measures.weakest_row(trial.made, inputs, RUNS)
    yield "weakest row", least, ">", 1, f"effect of {name} on its layer's output over that of rounding"


@measurement(
    "an entry that the optimiser never moves: no gradient reaches it, or its spacing swallows the step"
)
def every_entry_moves(trial: Trial) -> Iterator[Figure]:
    inputs = trial.inputs(trial.bench.training)
    for dtype in ("float32", "bfloat16", "float16"):
        if declared_for("every_entry_moves_in_every_dtype", trial.variant, trial.case(dtype=dtype)):
            continue
        # In half precision what is new is the spacing: one block shows it.
        made = trial.made if dtype == "float32" else trial.attach(layers=trial.bench.layers[-1:], dtype=dtype)
        still = measures.unmoved(made, trial.loss, inputs)
        rate = max(measures.rates(made).values())
        why = (
            f"entries that {measures.patience(made)} AdamW steps of {measures.RATE} (where W's size wants it,"
            f" {rate:.3g}) left alone"
        )
        yield (
            f"unmoved in {dtype}",
            sum(still.values()),
            "≤",
            0,
            f"{why}{_first([f'{n} × {name}' for name, n in still.items()])}",
        )


@measurement(
    "a parameter that starts learning later than its paper says, or never: its path is cut at init",
    stays=(
        "the paths notice a missing gradient too, of one block and the head; this names each parameter of"
        " every target"
    ),
)
def first_gradients_are_as_declared(trial: Trial) -> Iterator[Figure]:
    restore(trial.model, initial(trial.made))
    trial.loss(trial.model).mean().backward()  # type: ignore[no-untyped-call]
    declared = subject.first_gradients(trial.model)
    table: dict[str, int] = {}
    wrong = []
    for target, tensors in subject.tensors(trial.model).items():
        for name, wanted in declared[target].items():
            gradient = tensors[name].grad
            got = (
                "zero"
                if gradient is None or not gradient.any()
                else "nonzero"
                if gradient.isfinite().all()
                else "not finite"
            )
            table[f"{name} {got}"] = table.get(f"{name} {got}", 0) + 1
            if got != wanted:
                wrong.append(f"{target}.{name} is {got}")
    why = ", ".join(f"{kind} × {count}" for kind, count in table.items())
    yield "other than declared", len(wrong), "≤", 0, f"{why}{_first(wrong)}"


@measurement("a loss that falls by luck, by noise, or through something else than the adapter")
def learning_beats_noise(trial: Trial) -> Iterator[Figure]:
    drop, _ = trial.learnt
    why = f"drop of the training loss from {trial.at_init.trained:.3f} in {trial.steps} steps, over"
    percentile = f"the {100 * PERCENTILE:.0f}th percentile of random steps of the same norms"
    over = _over(percentile, trial.noise.trained, trial.chance.trained)
    yield "random steps", drop.trained, ">", trial.noise.trained, f"{why} {over}"
    yield (
        "disconnected",
        drop.trained,
        ">",
        trial.control.trained,
        f"{why} the same run with the adapter's output dropped",
    )


def _over(percentile: str, bound: float, chance: float) -> str:
    """What the bound is: not chance where the formula does not get so far."""
    reached = f"what its formula reaches by the same optimiser, which is less than {percentile}"
    return percentile if bound == chance else f"{reached}, {chance:.4g}"


@measurement("memorising, or a held-out loss that falls whatever is learnt")
def learning_generalises(trial: Trial) -> Iterator[Figure]:
    drop, _ = trial.learnt
    # Where even the best random steps do harm, falling means below the start.
    bound = max(0.0, trial.chance.held_out)
    fell = f"drop of the loss on unseen text from {trial.at_init.held_out:.3f}, over"
    percentile = "0 and the 99th percentile of random steps"
    why = f"{fell} {percentile}"
    over = _over(percentile, trial.noise.held_out, bound)
    yield "held-out text", drop.held_out, ">", trial.noise.held_out, f"{fell} {over}"
    yield (
        "shuffled targets",
        trial.shuffled.held_out,
        "≤",
        bound,
        f"mean of {trial.classes} runs on targets that say nothing: {why}",
    )


@measurement("an adapter that lowers some loss by one tensor, where the gradient of another is wrong")
def every_tensor_goes_downhill(trial: Trial) -> Iterator[Figure]:
    inputs = trial.inputs(trial.bench.training)
    of_shape = {tuple(trial.made.base[f"{target}.weight"].shape): target for target in inputs}
    wrong = steps.uphill(trial.made, trial.loss, of_shape.values())
    why = f"tensors against whose gradient the loss does not fall, of one layer a shape{_first(wrong)}"
    yield "uphill", len(wrong), "≤", 0, why


@measurement(
    "an init from which the smallest step is a jump: the first update destroys the base, at any learning rate"
)
def the_first_step_is_continuous(trial: Trial) -> Iterator[Figure]:
    found = steps.order(steps.widened(trial.made), trial.loss, trial.run)
    orders = [(found.last, f"at its defaults, {found}")]
    for name, choices in own_options(trial.variant).items():
        for value in choices[1:]:
            if not trial.takes(**{name: value}):
                continue
            made = trial.attach(layers=trial.bench.layers[-1:], **{name: value})
            found = steps.order(steps.widened(made), trial.loss, trial.run)
            if subject.continuous(made.case):
                orders.append((found.last, f"at {name}={value}, {found}"))
            else:
                what = f"{name}={value}, declared to jump"
                yield what, min(found.local), "≤", steps.HALF_ORDER, str(found)
    p, where = min(orders)
    why = f"p in |change| ~ εᵖ, least of {len(orders)} settings: {where}"
    yield "order", p, ">", steps.HALF_ORDER, why


@measurement(
    "a file that loads and gives back something else than what was learnt, hidden under the base's larger"
    " output"
)
def reload_keeps_the_effect(trial: Trial) -> Iterator[Figure]:
    _, learnt = trial.learnt
    restore(trial.model, learnt)
    base, fresh = trial.made.case.build(), trial.made.case.build()
    round_trip(trial.model, fresh)
    trained, reloaded = (measures.effect(model, base, trial.run) for model in (trial.model, fresh))
    size = float(torch.linalg.vector_norm(trained))
    off = float(torch.linalg.vector_norm(reloaded - trained))
    yield (
        "share of the effect lost",
        off / size if size else torch.nan,
        "≤",
        0,
        f"of an effect of norm {size:.3g}",
    )


@measurement("a layer, scope or head that attach silently leaves out, or takes along")
def every_path_is_attached(trial: Trial) -> Iterator[Figure]:
    paths = try_paths(trial)
    why = f"of {paths.tried} ways to attach{_first(paths.wrong)}"
    yield "paths that fail", len(paths.wrong), "≤", 0, "; not applicable: ".join([why, *paths.left_out])
