"""What attach, save, load and their like cost, counted and not timed: how often they read a weight of the
base, and how many functions they call.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import lora_lite as ll
from lora_lite.calibration import calibrate
from properties.judging.assertions import assert_holds
from properties.judging.claim import claim
from properties.judging.files import saved, scratch_file
from properties.judging.fixed_models import Stack, on, x

FEW, TIMES = 16, 4
# Of calls: what does not depend on the layers lowers the growth, the garbage collector's hooks may raise it.
NOISE = 1.1


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts the numbers of each weight that operations are given, views aside."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        weights = {name: p for name, p in model.named_parameters() if name.endswith("weight") and p.dim() > 1}
        self.names = {p.untyped_storage().data_ptr(): name for name, p in weights.items()}
        self.sizes = {name: p.numel() for name, p in weights.items()}
        self.read: Counter[str] = Counter()
        self.looking = True

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.looking and not function.is_view:
            for tensor in tree_leaves((args, kwargs)):
                if isinstance(tensor, Tensor):
                    self.read[self.names.get(tensor.untyped_storage().data_ptr(), "")] += tensor.numel()
        return function(*args, **kwargs or {})

    def away(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, in which nothing is counted."""

        def unseen(*args: Any, **kwargs: Any) -> Any:
            self.looking, before = False, self.looking
            try:
                return function(*args, **kwargs)
            finally:
                self.looking = before

        return unseen

    def times(self) -> float:
        """How often the weight was read that was read most."""
        return max(self.read[name] / size for name, size in self.sizes.items())


@contextmanager
def reading(model: nn.Module, variant: str) -> Iterator[Reads]:
    """Counts, but for what the variant's own init reads, and forward passes over calibration data."""
    reads, made = Reads(model), ll.VARIANTS[variant]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "initialise", reads.away(made.initialise))
        patch.setattr("lora_lite.adapter.calibrate", reads.away(calibrate))
        with reads:
            yield reads


@claim(st.just, stage="attach", subject="lora_lite")
def test_each_weight_is_read_once(variant: str) -> None:
    """By attach, whatever it wants of it: whether it is finite, its norms, by what it is known again; and by
    save and load. A variant's own init reads it besides.
    """
    told = "reads a weight %.3g times, wanted once at most"
    model, other = Stack(), Stack()
    with reading(model, variant) as reads:
        on(model, variant)
    assert_holds(reads.times() <= 1, claim=f"attach {told % reads.times()}")
    with saved(model) as path:
        for checked in (True, False):
            with reading(other, variant) as reads:
                ll.load(other, path, check_base=checked)
            ll.detach(other)
            assert_holds(reads.times() <= 1, claim=f"load {told % reads.times()}")
        with reading(model, variant) as reads:
            ll.save(model, path)
        assert_holds(reads.times() <= 1, claim=f"save {told % reads.times()}")


def calls(work: Callable[[], Any]) -> int:
    """How many Python functions it calls, and generators it goes on with."""
    found, before = 0, sys.getprofile()

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal found
        found += event == "call"

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return found


def life(layers: int) -> dict[str, int]:
    """The calls of each step in the life of an adapter on so many layers."""
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(layers)))
    handles: list[ll.Adapter] = []
    config = ll.DoRAConfig(r=2, layers=tuple(range(layers)), target_roles=("reader",))

    def disable() -> None:
        with handles[0].disabled():
            pass

    steps: dict[str, Callable[[Any], Any]] = {
        "attach": lambda path: handles.append(ll.attach(model, config)),
        "forward": lambda path: model(x(1)),
        "disabled": lambda path: disable(),
        "repr": lambda path: repr(handles[0]),
        "dead": lambda path: handles[0].dead(),
        "effect": lambda path: handles[0].effect([x(1)]),
        "save": lambda path: ll.save(model, path),
        "detach": lambda path: ll.detach(model),
        "load": lambda path: ll.load(model, path),
        "merge": lambda path: ll.merge(model),
    }
    with scratch_file() as path:
        return {name: calls(lambda step=step: step(path)) for name, step in steps.items()}  # type: ignore[misc]


@claim(stage="attach", subject="lora_lite")
def test_work_grows_as_the_layers_do() -> None:
    """Four times the layers take four times the calls, and no step looks at all layers for each layer."""
    life(2)  # what is done once in a process
    few, many = life(FEW), life(TIMES * FEW)
    for step, count in many.items():
        growth = count / few[step]
        told = f"{step}: {few[step]} calls on {FEW} layers, {growth:.3g} times as many on {TIMES} times that"
        assert_holds(growth <= TIMES * NOISE, claim=told)
