"""What a handle shows, and what is told while an attach takes long."""

import copy
import sys
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

import lora_lite as ll
from lora_lite import progress
from properties.judging.assertions import assert_holds, assert_runs
from properties.judging.claim import claim
from properties.judging.files import base
from properties.judging.fixed_models import Stack, on


class Mixed(nn.Module):
    """Two blocks alike, and what is no linear layer or not selected."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.conv = nn.Conv1d(4, 4, 3)
        self.norm = nn.LayerNorm(4)
        self.blocks = nn.ModuleList(nn.ModuleDict({"q": nn.Linear(4, 6)}) for _ in range(2))
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight

    def get_output_embeddings(self) -> nn.Module:
        return self.head


@claim(stage="attach", subject="lora_lite")
def test_a_handle_tells_what_it_is_on_and_what_it_left_alone() -> None:
    """Layers alike as one row, with shape and rank; what is trained, of how much; and each module with a
    matrix that carries no adapter, with the reason. A norm is none; a tied weight counts once.
    """
    handle = ll.attach(model := Mixed(), ll.LoRAConfig(r=2))
    wanted = {
        "embed": "Embedding, no linear layer",
        "conv": "Conv1d, weights of 3 dimensions",
        "head": "the output head",
    }
    found = f"left_alone is {handle.left_alone}, wanted {wanted}"
    assert_holds(handle.left_alone == wanted, claim=found)
    # 2 (4 + 6) 2 of 40 + 52 + 8 + 2 (24 + 6), of which the last are adapted.
    lines = (
        "Adapter(lora on 2 layers: trains 40 numbers, 25 % of the base's 160; its layers hold 37.5 %)",
        "  blocks.*.q    2 × 4 → 6  r=2",
        "  left alone: embed (Embedding, no linear layer), conv (Conv1d, weights of 3 dimensions), head (the"
        " output head)",
    )
    assert_holds(repr(handle) == "\n".join(lines), claim=f"repr of the handle is {handle!r}, wanted {lines}")
    for wanted_part in (
        "<code>blocks.*.q</code></td><td>2</td><td>4 → 6</td><td>2</td>",
        "25 %",
        "3 left alone",
    ):
        told = handle._repr_html_()
        assert_holds(wanted_part in told, claim=f"{told} does not hold {wanted_part!r}")
    second = ll.attach(model, ll.IA3Config(target_names=("head",)))
    assert_holds("head" not in handle.left_alone, claim="a layer with another adapter counts as left alone")
    second.detach()
    for told in (repr(second), second._repr_html_()):
        found = f"a handle that was detached shows {told}"
        assert_holds("ia3 on head, no longer attached" in told, claim=found)


@claim(stage="attach", subject="lora_lite")
def test_a_handle_shows_names_as_they_are() -> None:
    """Escaped in HTML; and a handle has a repr in whatever state: after surgery, on a copy, of one layer."""
    odd = nn.ModuleDict({"<b>&": nn.Linear(3, 3)})
    told = ll.attach(odd, ll.LoRAConfig(r=1))._repr_html_()
    assert_holds("&lt;b&gt;&amp;" in told and "<b>&<" not in told, claim=f"a name is not escaped in {told}")
    alone = nn.Linear(3, 3)
    told = repr(ll.attach(alone, ll.LoRAConfig(r=1)))
    assert_holds("the model itself    1 × 3 → 3" in told, claim=f"the handle of one layer shows {told}")
    model = base()
    handle = ll.attach(model, ll.LoRAConfig(r=1))
    model[0] = nn.Linear(6, 5)
    with assert_runs("repr of a handle one of whose layers was replaced"):
        repr(handle), handle._repr_html_()
    (twin,) = ll.adapters_of(copy.deepcopy(model))
    with assert_runs("repr of a copied handle"):
        repr(twin)


class Bar:
    """Stands in for tqdm."""

    made: ClassVar[list["Bar"]] = []

    def __init__(self, total: int | None, initial: int, desc: str, leave: bool) -> None:
        self.total, self.done, self.what, self.closed = total, initial, desc, False
        Bar.made.append(self)

    def update(self) -> None:
        self.done += 1

    def close(self) -> None:
        self.closed = True


def bars(quiet: float, installed: bool, run: Any) -> list[Bar]:
    """Those that are made while `run` runs, where the first `quiet` seconds go without."""
    Bar.made.clear()
    auto: Any = ModuleType("tqdm.auto")
    auto.tqdm = Bar
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tqdm.auto", auto if installed else None)
        patch.setattr(progress, "QUIET", quiet)
        run()
    return list(Bar.made)


@claim(st.just, stage="calibration", about=("eva", "pissa"), subject="lora_lite")
def test_what_takes_long_is_told(variant: str) -> None:
    """One bar for the batches, one for the layers, each counted to its end and closed, also where a batch
    fails; none where it is over soon, or where tqdm is not installed.
    """
    for quiet, installed in ((-1.0, True), (60.0, True), (-1.0, False)):
        made = bars(quiet, installed, lambda: on(Stack(), variant))
        told = [(bar.what, bar.done, bar.total, bar.closed) for bar in made]
        layers = [(f"{variant}: layers", 3, 3, True)]
        batches = [("calibration: batches", 2, 2, True)] if ll.VARIANTS[variant].needs_calibration else []
        wanted = [*batches, *layers]
        expected = wanted if quiet < 0 and installed else []
        found = f"attach after {quiet} quiet seconds, tqdm {installed}, shows {told}, wanted {expected}"
        assert_holds(told == expected, claim=found)

    def fails() -> None:
        with pytest.raises(ll.CalibrationError):
            ll.attach(base(), ll.EVAConfig(r=1), [torch.randn(4, 6), torch.randn(4, 7)])

    made = bars(-1.0, True, fails)
    assert_holds(all(bar.closed for bar in made), claim="a bar stays open after a batch that failed")
