"""Interrupts: whatever stops lora_lite, and at whatever line of its own, a model is as before or as after."""

import tempfile
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from lora_lite import journal
from properties.judging.assertions import assert_holds, assert_refuses
from properties.judging.claim import claim
from properties.judging.fixed_models import Stack, moved, on, x
from properties.judging.interrupting import (
    Lines,
    assert_before_or_after,
    lines_of,
    one_folder,
    scene,
    stopped,
    tracing,
    turning_points,
)
from properties.judging.snapshot import assert_as_before, snapshot_of
from strategies.interrupts import LAST, MOST, OPERATIONS, Interrupt, interrupts
from strategies.options import BUILT_IN


@claim(interrupts, stage="attach", subject="lora_lite")
def test_an_interrupt_leaves_the_model_as_before_or_as_after(case: Interrupt) -> None:
    """Ctrl-C, no memory or any error, in attach, load, merge, detach and save."""
    assert_before_or_after(case)


@claim(st.just, stage="attach", subject="lora_lite", slow=True)
def test_no_line_leaves_half_of_it_when_interrupted(variant: str) -> None:
    """Of one operation nearly all lines are the same for every variant: each takes its own ninth of them,
    the first and the last time that a loop runs them, and the last ones, on which the model changes.
    `python -m properties.fuzz.interrupts` tries all on each.
    """
    turn = BUILT_IN.index(variant) if variant in BUILT_IN else 0
    with one_folder():
        for operation in OPERATIONS:
            count, points = lines_of(variant, operation), turning_points(variant, operation)
            for at in sorted({*points[turn :: len(BUILT_IN)], *range(max(0, count - LAST), count)}):
                assert_before_or_after(Interrupt(variant, operation, at))


class InNoGrad(Lines):
    """The lines of torch's own no_grad, in place of lora_lite's."""

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_globals.get("__name__") != "torch.autograd.grad_mode":
            return None
        if event == "line":
            self.ran += 1
            if self.ran - 1 in self.at:
                raise self.error(f"at line {self.ran - 1}")
        return self


@claim(st.just, stage="attach", subject="lora_lite")
def test_an_interrupt_inside_of_no_grad_leaves_gradients_on(variant: str) -> None:
    """At each of its lines: it would leave all of torch without them."""
    with one_folder():
        for operation in ("attach", "load", "merge", "save"):
            # Until it has no such line any more.
            for at in range(MOST):
                with scene(variant, operation) as there:
                    lines = InNoGrad(KeyboardInterrupt, at)
                    with tracing(lines), suppress(KeyboardInterrupt):
                        there.act()
                    found = torch.is_grad_enabled()
                what = f"an interrupt at line {at} of no_grad during {operation} left torch without gradients"
                assert_holds(found, claim=what)
                if lines.ran <= at:
                    break


@claim(st.just, stage="merge", subject="lora_lite")
def test_a_merge_that_fails_late_puts_every_bit_back(variant: str) -> None:
    """The last layer's adapter fails when the others are merged already; from memory and from the disk."""

    def fails(*given: Any) -> Tensor:
        raise RuntimeError("no more")

    for room in (journal.IN_MEMORY, 1):
        moved(on(model := Stack(), variant))
        model(x(2))
        adapter: Any = model.third.lora_lite
        hook = "adapt_input" if type(adapter).adapt_input is not ll.Variant.adapt_input else "adapt_output"
        before = snapshot_of(model)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(journal, "IN_MEMORY", room)
            patch.setattr(type(adapter), hook, _after(2, getattr(type(adapter), hook), fails))
            with assert_refuses(RuntimeError, "no more", claim="a merge whose last layer fails"):
                ll.merge(model)
        assert_as_before(model, before, claim=f"a merge that failed at the last layer, {room} bytes kept")


def _after(layers: int, first: Any, then: Any) -> Any:
    """`first` for so many layers, each of which merge calls twice, and `then` from there on."""
    calls = iter([first] * 2 * layers)
    return lambda *given: next(calls, then)(*given)


@claim(stage="merge", subject="lora_lite")
def test_a_second_interrupt_does_not_stop_the_rollback_of_a_merge() -> None:
    """An impatient Ctrl-C, at any line of what puts the weights back but the first."""

    def written_over() -> tuple[list[Tensor], journal.Journal]:
        weights = [torch.full((3, 3), float(i)) for i in range(3)]
        kept = journal.Journal()
        for weight in weights:
            kept.keep([weight], [])
            weight.fill_(9)
        return weights, kept

    _, kept = written_over()
    count = stopped(kept.take_back, KeyboardInterrupt).ran
    kept.close()
    for at in range(1, count):
        weights, kept = written_over()
        stopped(kept.take_back, KeyboardInterrupt, at)
        kept.close()
        found = [sorted(set(weight.flatten().tolist())) for weight in weights]
        what = f"interrupted at line {at} of {count}, the rollback left weights of {found}"
        assert_holds(found == [[0.0], [1.0], [2.0]], claim=f"{what}, wanted 0, 1 and 2")


@claim(stage="merge", subject="lora_lite")
def test_merge_holds_no_second_copy_of_the_model() -> None:
    """What it keeps until it is done goes to the disk, but for a fixed amount; and is gone afterwards."""
    written: list[Any] = []

    class Noted(tempfile.SpooledTemporaryFile):  # type: ignore[type-arg]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            written.append(self)

    model = nn.Sequential(*(nn.Linear(32, 32) for _ in range(8)))
    with torch.no_grad():
        for parameter in ll.attach(model, ll.LoRAConfig(r=2)).parameters():
            parameter.fill_(0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "IN_MEMORY", 2 * 32 * 32 * 4)
        patch.setattr(tempfile, "SpooledTemporaryFile", Noted)
        ll.merge(model)
    (kept,) = written
    assert_holds(kept._rolled, claim="merge kept all of the old weights in memory")
    assert_holds(kept.closed, claim="merge left its temporary file open")


@claim(stage="merge", subject="lora_lite")
def test_a_merge_without_room_for_the_old_weights_leaves_them() -> None:
    """The error names the folder, and what to set."""

    class Full(tempfile.SpooledTemporaryFile):  # type: ignore[type-arg]
        def write(self, data: Any) -> int:
            if self.tell():
                raise OSError(28, "No space left on device")
            return super().write(data)

    moved(on(model := Stack(), "lora"))
    before = snapshot_of(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "SpooledTemporaryFile", Full)
        with assert_refuses(OSError, "No space left on device.*Set TMPDIR", claim="a merge without room"):
            ll.merge(model)
    assert_as_before(model, before, claim="a merge without room")
