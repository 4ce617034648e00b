"""adapter.effect(batches): one number a target, by how much the adapter changes what the layer gives."""

import math
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.agreement import add_a_constant
from properties.judging.assertions import (
    assert_holds,
    assert_identical,
    assert_refuses,
    assert_runs,
    assert_within,
    claim_is_about,
)
from properties.judging.claim import claim
from properties.judging.expected import expected_output
from properties.judging.fixed_models import Stack, moved, on, x
from properties.judging.snapshot import assert_as_before, snapshot_of
from properties.judging.tolerance import claim_bound, finite
from properties.subjects.attaching import Attached, attach
from properties.subjects.layer_runs import Layer, run_layers
from strategies import AdaptedModel, adapted_models, trained_models

SIZES = (2, 1, 3)


def batches(case: AdaptedModel) -> list[dict[str, Tensor]]:
    """Unequal ones, each of its own numbers."""
    return [case.model.batch(case.seed + i, size=size) for i, size in enumerate(SIZES)]


def effects_of(model: nn.Module, data: Any) -> dict[str, float]:
    with assert_runs("adapter.effect"):
        return {n: e for adapter in ll.adapters_of(model) for n, e in adapter.effect(data).items()}


def norm(*parts: Tensor) -> float:
    return math.hypot(*(float(torch.linalg.vector_norm(part.double())) for part in parts))


def assert_effect(got: float, seen: list[Layer]) -> None:
    """It is what the oracle's outputs are off from x Wᵀ + b, within what rounding may do to both."""
    bounds = [expected_output(layer) for layer in seen]
    base = [
        nn.functional.linear(*wide(layer)).reshape(bound.value.shape)
        for layer, bound in zip(seen, bounds, strict=True)
    ]
    size, error = norm(*base), norm(*(bound.error for bound in bounds))
    claim_is_about(size > 2 * error and math.isfinite(error))
    wanted = norm(*(bound.value - plain for bound, plain in zip(bounds, base, strict=True))) / size
    # Of either output by `error` in all: the change by twice as much, and the size that it is a share of.
    off = (2 + wanted) * error / (size - error)
    what, like = f"the effect on {seen[0].name}", "the oracle's"
    assert_within(number(got), number(wanted), off, what=what, like=like)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def wide(layer: Layer) -> tuple[Tensor, Tensor, Tensor | None]:
    bias = None if layer.bias is None else layer.bias.double()
    return layer.x.detach().double(), layer.weight.double(), bias


@claim(trained_models, stage="forward", needs=("oracle", "transformers"), subject="lora_lite", share=0.5)
def test_the_effect_is_the_oracles(case: AdaptedModel) -> None:
    """Away from init, over batches of unequal size: ‖y − (x Wᵀ + b)‖ / ‖x Wᵀ + b‖ of each layer."""
    assert_effects_of_oracle(attach(case), case)


def assert_effects_of_oracle(attached: Attached, case: AdaptedModel) -> None:
    runs: list[Callable[[nn.Module], Tensor]] = [_run(batch) for batch in batches(case)]
    seen = [{layer.name: layer for layer in run_layers(attached, run)} for run in runs]
    # Of what overflows no effect is told: a claim of its own.
    claim_is_about(finite(layer.y for layers in seen for layer in layers.values()))
    got = effects_of(attached.model, batches(case))
    assert_holds(list(got) == list(seen[0]), claim=f"effect tells of {list(got)}, wanted {list(seen[0])}")
    for name, effect in got.items():
        assert_effect(effect, [layers[name] for layers in seen])


def _run(batch: dict[str, Tensor]) -> Callable[[nn.Module], Tensor]:
    def run(model: nn.Module) -> Tensor:
        output = model(**batch)
        return output if isinstance(output, Tensor) else output.logits

    return run


@claim(adapted_models, stage="init", needs=("transformers",), subject="lora_lite", share=0.5)
def test_what_changes_nothing_has_an_effect_of_zero(case: AdaptedModel) -> None:
    """Exactly, at an init that is the identity bit for bit; at any other what the oracle gives."""
    attached = attach(case)
    exact = all(
        ll.VARIANTS[case.variant].identity(adapter.config) == "exact"
        for adapter in ll.adapters_of(attached.model)
    )
    if not exact:
        assert_effects_of_oracle(attached, case)
        return
    for name, effect in effects_of(attached.model, batches(case)).items():
        assert_holds(effect == 0.0, claim=f"the effect on {name} at init is {effect}, wanted exactly 0")


def data(count: int = 2) -> list[Tensor]:
    return [x(3, seed=i) for i in range(count)]


class Drawing(Stack):
    """Draws in eval mode too, and calls its second layer only where it is given little."""

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.dropout(self.first(x), 0.5, training=True)
        y: Tensor = self.third(h if len(x) > 5 else self.second(h))
        return y


@claim(st.just, stage="forward", subject="lora_lite")
def test_the_effect_leaves_nothing_behind(variant: str) -> None:
    """Modes (mixed ones too), hooks, dead() and what torch draws next; also where the second batch fails."""
    model = Drawing().train()
    model.norm.eval()
    adapter = moved(on(model, variant))
    model(x(9))
    before, drawn, dead = snapshot_of(model), torch.random.get_rng_state(), adapter.dead()
    assert_holds(dead == ("second",), claim=f"dead() tells of {dead}, wanted second")
    for given in (data(), [*data(1), "text"]):
        try:
            adapter.effect(given)
        except ll.CalibrationError:
            told = "after an effect that failed"
        else:
            told = "after an effect"
        assert_as_before(model, before, claim=told)
        assert_identical(
            torch.random.get_rng_state(), drawn, what=f"torch's generator {told}", like="as before"
        )
        assert_holds(adapter.dead() == dead, claim=f"dead() {told} tells of {adapter.dead()}, wanted {dead}")
        assert_holds(torch.is_grad_enabled(), claim=f"gradients are off {told}")


@claim(st.just, stage="forward", subject="lora_lite")
def test_the_effect_is_that_of_eval_mode_without_gradients(variant: str) -> None:
    """Whatever mode the model is in."""
    seen = set()
    model = Stack().train()
    adapter = moved(on(model, variant))
    model.first.register_forward_hook(
        lambda layer, args, y: seen.add((layer.training, torch.is_grad_enabled()))
    )
    adapter.effect(data())
    assert_holds(
        seen == {(False, False)}, claim=f"effect ran with (training, gradients) {seen}, wanted neither"
    )


@claim(st.just, stage="forward", subject="lora_lite")
def test_the_effect_on_a_layer_that_nothing_reaches_is_nan(variant: str) -> None:
    """And not 0, which would say that it was tried."""
    model = Drawing()
    adapter = moved(on(model, variant))
    effect = adapter.effect([x(9)])
    assert_holds(
        math.isnan(effect["second"]), claim=f"the effect on second is {effect['second']}, wanted NaN"
    )
    reached = {name: effect[name] for name in ("first", "third")}
    found = f"the effects on layers that were reached are {reached}, wanted numbers above 0"
    assert_holds(all(0 < e < math.inf for e in reached.values()), claim=found)
    for given in (x(3), x(0)):
        adapter.effect([x(9), given])


@claim(st.just, stage="forward", subject="lora_lite")
def test_the_effect_counts_the_other_adapters_in(variant: str) -> None:
    """Each handle tells of its own targets, at the inputs that all of them give."""
    model = Stack()
    first = moved(on(model, "lora", target_names="first"))
    second = moved(on(model, variant, target_names="third"), seed=1)
    assert_holds(list(second.effect(data())) == ["third"], claim="the effect is not of its own targets")
    beside = second.effect(data())["third"]
    first.detach()
    alone = second.effect(data())["third"]
    assert_holds(beside != alone, claim=f"the effect on third is {beside} with and without lora on first")


@claim(st.just, stage="forward", subject="lora_lite")
def test_the_effect_of_what_is_disabled_is_zero(variant: str) -> None:
    """Exactly, and what it was once it is on again."""
    adapter = moved(on(Stack(), variant))
    wanted = adapter.effect(data())
    with adapter.disabled():
        off = adapter.effect(data())
    assert_holds(set(off.values()) == {0.0}, claim=f"the effect while disabled is {off}, wanted exactly 0")
    again = adapter.effect(data())
    assert_holds(again == wanted, claim=f"the effect after that is {again}, wanted {wanted} as before")


@claim(st.just, stage="refusal", subject="lora_lite")
def test_what_has_no_effect_to_tell_is_refused(variant: str) -> None:
    """No batches, one batch for many, one that the model does not take, NaN in the data, and a handle that is
    off; NaN that an adapter makes is told of by its own layer.
    """
    model = Stack()
    adapter = moved(on(model, variant))
    unfit = "batch 1 of the data, a str: the model raised .*Wanted a tensor"
    for given, match in (
        ([], "the data holds no batch"),
        (x(3), "the data: found one Tensor, wanted batches. Put it in a list"),
        ([x(3), "text"], unfit),
        (
            [x(3), torch.full((2, 4), torch.nan)],
            r"^first: the data gives NaN or Inf here.*\(3 of 3 targets\)",
        ),
    ):
        with assert_refuses(ll.CalibrationError, match, claim=f"effect on {type(given).__name__}"):
            adapter.effect(given)
    with torch.no_grad():
        next(iter(adapter.layers()["second"].parameters())).fill_(torch.nan)
    with assert_refuses(ll.CalibrationError, "^second: the adapter makes NaN or Inf", claim="effect of NaN"):
        adapter.effect(data())
    adapter.detach()
    with assert_refuses(ll.NotAttachedError, "no longer attached", claim="effect after detach"):
        adapter.effect(data())


@claim(st.just, stage="forward", subject="lora_lite")
def test_the_effect_is_a_ratio_whatever_the_size(variant: str) -> None:
    """Of activations in float64 whose squares are too small or too large for it, as of ordinary ones. A
    constant does not grow with them.
    """
    model = nn.Sequential(nn.Linear(4, 4, bias=False)).double()
    adapter = moved(on(model, variant, dtype=torch.float64))
    if add_a_constant(model):
        return
    wanted = adapter.effect([x(3).double()])["0"]
    for size in (2.0**-600, 2.0**600):
        got = number(adapter.effect([x(3).double() * size])["0"])
        bound, what = claim_bound(wanted, torch.float64), f"the effect on inputs of size {size:.1g}"
        assert_within(got, number(wanted), bound, what=what, like="that on inputs of size 1")


@claim(st.just, stage="engine", needs=("compiler",), subject="lora_lite", slow=True)
def test_the_effect_is_seen_in_a_model_that_is_compiled_in_place(variant: str) -> None:
    """After it has run as compiled; nothing is compiled for it, and nothing after it."""
    # Here: it takes two seconds that every other run is spared.
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    model = Stack().eval()
    adapter = moved(on(model, variant))
    wanted = adapter.effect(data())
    for layer in (model.first, model):
        layer.compile(backend=counter)
    with torch.no_grad():
        output = model(x(3))
        frames = counter.frame_count
        got = adapter.effect(data())
        again = model(x(3))
    assert_holds(got == wanted, claim=f"the effect once compiled is {got}, wanted {wanted}")
    what, like = "the compiled output after an effect", "that before"
    assert_identical(again, output, what=what, like=like)
    found = f"effect had {counter.frame_count - frames} of {frames} frames compiled again, wanted none"
    assert_holds(counter.frame_count == frames, claim=found)
