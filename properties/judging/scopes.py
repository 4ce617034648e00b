"""Which layers attach puts an adapter on."""

from collections.abc import Iterable
from typing import Any

from torch import nn

import lora_lite as ll
from properties.judging.assertions import Violation, assert_holds


def assert_targets(
    model: nn.Module, wanted: Iterable[str], config: ll.AdapterConfig | None = None, **common: Any
) -> None:
    """attach takes the wanted layers, in this order, and no other layer carries anything.

    common: the fields of a LoRAConfig, where no config is given.
    """
    config = ll.LoRAConfig(r=1, **common) if config is None else config
    said, wanted = selection(config), tuple(wanted)
    try:
        got = ll.attach(model, config).targets
    except ll.LoraLiteError as error:
        names = [name for name, _ in model.named_modules() if name]
        raise Violation(f"{said} is refused on the modules {names}: {error}") from error
    assert_holds(got == wanted, claim=f"with {said} attach adapted {got}, wanted {wanted}")
    carry = tuple(name for name, module in model.named_modules() if hasattr(module, "lora_lite"))
    found = f"with {said} the modules {carry} carry an adapter, wanted {wanted}"
    assert_holds(carry == wanted, claim=found)


def selection(config: ll.AdapterConfig) -> str:
    """What a config says of the layers that it is for."""
    names = ("target_names", "exclude_names", "target_roles", "layers")
    said = {name: getattr(config, name) for name in names}
    chosen = [f"{name}={value!r}" for name, value in said.items() if value not in ((), None)]
    return ", ".join(chosen) or "no selection"
