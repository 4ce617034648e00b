"""Paths that torch takes around a layer in eval mode, which an adapter on it would not see."""

from typing import Any

from torch import nn

from lora_lite.atomic import Step, attribute_as_it_is

# On an encoder whose nested tensors an attach switched off.
NESTED = "_lora_lite_nested"


def switch_off(model: nn.Module) -> tuple[list[Step], list[Step]]:
    """What makes nn.TransformerEncoder hand its layers plain tensors, and what takes that back.

    With a padding mask it would make nested ones, which have no shape that an adapter could go by. (Its
    layers give up their own fused path where a hook hangs on them.)
    """
    steps: list[Step] = []
    back: list[Step] = []
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder) and getattr(module, "use_nested_tensor", False):
            back += [attribute_as_it_is(module, name) for name in (NESTED, "use_nested_tensor")]
            held: Any = vars(module)
            steps += [(held.__setitem__, NESTED, True), (held.__setitem__, "use_nested_tensor", False)]
    return steps, back


def switch_on(model: nn.Module) -> tuple[list[Step], list[Step]]:
    """What switch_off() did, undone; and what takes that back."""
    steps: list[Step] = []
    back: list[Step] = []
    for module in model.modules():
        if NESTED in vars(module):
            back += [attribute_as_it_is(module, name) for name in (NESTED, "use_nested_tensor")]
            held: Any = vars(module)
            steps += [(held.__setitem__, "use_nested_tensor", True), (held.pop, NESTED, None)]
    return steps, back
