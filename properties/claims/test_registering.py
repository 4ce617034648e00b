"""What the author of a variant, or of a config, is told at once: what cannot be registered, declared or
attached.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import strategies as st
from torch import nn

import lora_lite as ll
from lora_lite.spec import zeros
from properties.judging import blanks
from properties.judging.assertions import assert_holds, assert_refuses
from properties.judging.claim import claim


@claim(st.just, stage="init", early=True, subject="lora_lite")
def test_every_part_is_written(variant: str) -> None:
    """Of the variant and of its oracle. Until then, no other claim can be about them."""
    kind = ll.VARIANTS[variant]
    left = [*blanks.of_the_variant(kind), *blanks.of_the_oracle(kind)]
    listed = "\n".join([f"{len(left)} to be written:", *left])
    assert_holds(not left, claim=f"a part of {variant} is not written yet, {listed}")


@claim(stage="refusal", subject="lora_lite")
def test_tensors_are_declared_in_specs_as_such() -> None:
    """load builds a module from its file: what only __init__ knows, and a shape that is none, would be missed
    there.
    """
    own_init = type("Own", (ll.LoRA,), {"__init__": lambda self, shape, config, device=None: None})
    match = "Own: found .*, wanted Variant.__init__: declare"
    with assert_refuses(ll.ConfigError, match, claim="register of a variant with an __init__ of its own"):
        ll.register(own_init)
    with assert_refuses(ll.ConfigError, r"ParamSpec.shape: found \[3\]", claim="a ParamSpec of shape [3]"):
        ll.ParamSpec([3], zeros, first_gradient="nonzero")  # type: ignore[arg-type]  # what is refused
    match = "ParamSpec.first_gradient: found 'no'"
    with assert_refuses(ll.ConfigError, match, claim="a ParamSpec whose first_gradient is 'no'"):
        ll.ParamSpec((3,), zeros, first_gradient="no")  # type: ignore[arg-type]  # what is refused


@claim(stage="refusal", subject="lora_lite")
def test_a_tensor_that_nothing_fills_is_refused() -> None:
    """Beside others that an inherited initialise does fill."""

    def specs(cls: Any, shape: ll.LinearShape, config: Any) -> dict[str, ll.ParamSpec]:
        return {**ll.DoRA.specs(shape, config), "g": ll.ParamSpec((3,), first_gradient="zero")}

    config = type("ForgottenConfig", (ll.DoRAConfig,), {"variant": "forgotten"})
    kind = type(
        "Forgotten", (ll.DoRA,), {"name": "forgotten", "config_class": config, "specs": classmethod(specs)}
    )
    try:
        ll.register(kind)
        match, tried = "0: forgotten: nothing fills g", "attach of a variant that fills no g"
        with assert_refuses(ll.ConfigError, match, claim=tried):
            ll.attach(nn.Sequential(nn.Linear(4, 4)), config(r=2))
    finally:
        del ll.VARIANTS["forgotten"]  # it must not judge the other claims


@claim(stage="refusal", subject="lora_lite")
def test_a_built_in_variant_cannot_be_replaced() -> None:
    """Not even by a class of the same name."""
    impostor = type("LoRA", (ll.LoRA,), {"__qualname__": "LoRA", "__module__": "elsewhere"})
    try:
        with assert_refuses(ll.ConfigError, "the name 'lora' belongs to", claim="register of a second lora"):
            ll.register(impostor)
    finally:
        ll.VARIANTS["lora"] = ll.LoRA  # whatever was registered must not judge the other claims


@dataclass(frozen=True, kw_only=True)
class Borrowed(ll.AdapterConfig):
    """A class that has no more of a variant than its name."""

    variant: ClassVar[str] = "lora"


@claim(stage="refusal", subject="lora_lite")
def test_a_config_that_borrows_a_name_is_refused() -> None:
    """Of a class that no registered variant has for its config."""
    match = "Borrowed is not the config of a registered variant"
    tried = "attach with a config class of the user's own whose variant is 'lora'"
    with assert_refuses(ll.ConfigError, match, claim=tried):
        ll.attach(nn.Linear(4, 4), Borrowed())


@claim(stage="refusal", subject="lora_lite")
def test_a_config_class_in_place_of_a_config_is_refused() -> None:
    """With what to write: brackets are forgotten."""
    match = r"For the defaults write LoRAConfig\(\)"
    with assert_refuses(ll.ConfigError, match, claim="attach with a class in place of a config"):
        ll.attach(nn.Linear(4, 4), ll.LoRAConfig)  # type: ignore[arg-type]  # what is refused
