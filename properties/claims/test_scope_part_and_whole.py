"""One adapted model seen from its parts and from its whole."""

from typing import Any

from torch import nn

import lora_lite as ll
from properties.judging.assertions import assert_refuses
from properties.judging.claim import claim
from properties.judging.files import scratch_file

ELSEWHERE = "carries an adapter that was attached through another"


def whole() -> Any:
    """A model that has a part with a layer of its own, and a layer beside it."""
    return nn.ModuleDict({"part": nn.Sequential(nn.Linear(4, 4)), "rest": nn.Linear(4, 4)})


@claim(stage="scope", subject="lora_lite")
def test_adapters_of_a_part_are_not_overlooked_by_the_whole() -> None:
    """Attached through a part, the whole refuses to attach, save, merge and detach, and says which layer."""
    model = whole()
    ll.attach(model["part"], ll.LoRAConfig(r=2))
    with scratch_file() as path:
        for what, act in {
            "attach to": lambda: ll.attach(model, ll.IA3Config(target_names=("rest",))),
            "save": lambda: ll.save(model, path),
            "merge": lambda: ll.merge(model),
            "detach": lambda: ll.detach(model),
        }.items():
            tried = f"{what} the whole model, whose part carries an adapter"
            with assert_refuses(ll.TargetError, f"part.0: {ELSEWHERE}", claim=tried):
                act()  # type: ignore[no-untyped-call]  # a lambda


@claim(stage="scope", subject="lora_lite")
def test_adapters_of_the_whole_are_not_overlooked_by_a_part() -> None:
    """Attached through the whole, a part refuses a second adapter of its own."""
    model = whole()
    ll.attach(model, ll.LoRAConfig(r=2, target_names=("part.0",)))
    model["part"].append(nn.Linear(4, 4))
    tried = "attach to a part of an adapted model"
    with assert_refuses(ll.TargetError, f"0: {ELSEWHERE}", claim=tried):
        ll.attach(model["part"], ll.IA3Config(target_names=("1",)))
