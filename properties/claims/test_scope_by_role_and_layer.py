"""Which layers an adapter goes on by their role in the residual stream and by the index of their block."""

import re
from types import SimpleNamespace
from typing import Any

from torch import nn

import lora_lite as ll
from properties.judging.assertions import assert_refuses
from properties.judging.claim import claim
from properties.judging.fixed_models import simple_config
from properties.judging.scopes import assert_targets
from strategies.scopes import (
    WIDTH,
    ByLayer,
    ByRole,
    selections_by_layer,
    selections_by_role,
    tree,
)


@claim(selections_by_role, stage="scope", needs=("no data",), subject="lora_lite")
def test_roles_are_found_from_the_residual_width(case: ByRole) -> None:
    """The config's hidden_size, or what most layers touch, however wide others are; ties and empty roles are
    refused.
    """
    model: Any = case.build()
    if case.hidden_size is not None:
        model.config = SimpleNamespace(hidden_size=case.hidden_size)
    config = simple_config(case.variant, target_roles=case.target_roles)
    tried = f"attach with target_roles={case.target_roles!r} on layers {case.shapes}"
    if (width := case.width()) is None:
        match = "cannot tell the residual width"
        with assert_refuses(ll.TargetError, match, claim=f"{tried}, where two widths tie"):
            ll.attach(model, config)
        return
    found = {role: case.of_role(role, width) for role in case.target_roles}
    if empty := [role for role, own in found.items() if not own]:
        match = f"no layer is '{empty[0]}'"
        with assert_refuses(ll.TargetError, match, claim=f"{tried} at a residual width of {width}"):
            ll.attach(model, config)
        return
    wanted = set().union(*found.values())
    assert_targets(model, [name for name, _ in model.named_children() if name in wanted], config)


@claim(selections_by_layer, stage="scope", share=0.5, needs=("no data",), subject="lora_lite")
def test_a_layer_index_counts_the_blocks_of_the_model(case: ByLayer) -> None:
    """Not the experts in a block, nor the parts of a pipeline around it; an index that is not there is
    refused by number.
    """
    model, index = case.build()
    config = simple_config(case.variant, layers=case.layers)
    if absent := sorted(set(case.layers) - set(index.values())):
        match = re.escape(f"no linear layer has index {absent}")
        tried = f"attach with layers={case.layers} on {case.blocks} blocks"
        with assert_refuses(ll.TargetError, match, claim=tried):
            ll.attach(model, config)
    else:
        assert_targets(model, [name for name, i in index.items() if i in case.layers], config)


@claim(stage="scope", subject="lora_lite")
def test_a_shared_block_has_the_index_of_each_of_its_names() -> None:
    """A block that the model runs twice is layer 0 and layer 1."""
    block = nn.Linear(WIDTH, WIDTH)
    assert_targets(nn.ModuleList([block, block]), ["0"], layers=(1,))


@claim(stage="scope", subject="lora_lite")
def test_a_part_that_a_number_names_is_no_layer() -> None:
    """Two towers, by number in a dictionary: layers counts the blocks of each, and no towers."""
    towers = {str(i): nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3)) for i in range(2)}
    assert_targets(nn.ModuleDict(towers), ["0.1", "1.1"], layers=(1,))


@claim(stage="scope", subject="lora_lite")
def test_rules_of_the_residual_width_in_a_transformers_config() -> None:
    """A multimodal config tells its text part's; else layers count."""
    model: Any = tree({"up": (4, 12), "down": (12, 4), "gate": (12, 12), "more": (12, 12)})
    model.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(hidden_size=4))
    assert_targets(model, ["up"], target_roles="reader")
    model = tree({"a": (4, 4), "b": (4, 12), "c": (12, 6), "d": (12, 6)})
    assert_targets(model, ["c", "d"], target_roles="reader")  # a square layer is one layer, and not two
