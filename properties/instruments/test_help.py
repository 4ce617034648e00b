"""help() of a variant and of its config is the documentation that users open: it says what the code
declares.
"""

import dataclasses
import inspect
import re
from typing import Any

import pytest

import lora_lite as ll
from strategies.options import BUILT_IN

pytestmark = pytest.mark.instruments

# Unequal widths, wide enough for the default rank of every variant.
SHAPE = ll.LinearShape(24, 40, bias=True)
# "    A  (r, d_in)  trained", its shape an expression of widths and settings; "r = 8  rank of the update".
TENSOR = re.compile(r"^    (\w+) +(\(.*\))\s+(trained|frozen) ", re.MULTILINE)
SETTING = re.compile(r"^(\w+) = (\S+)  ", re.MULTILINE)
# Which layers: told once, for all variants.
TOLD_BY_THE_BASE = {"target_names", "exclude_names", "target_roles", "layers"}


def defaults(config_class: type[ll.AdapterConfig]) -> dict[str, str]:
    """The settings that the config has, and their defaults as Python writes them."""
    fields = dataclasses.fields(config_class)
    return {field.name: repr(field.default) for field in fields if field.name not in config_class.unused}


@pytest.mark.parametrize("name", BUILT_IN)
def test_help_names_every_tensor_with_its_shape(name: str) -> None:
    variant = ll.VARIANTS[name]
    config = variant.config_class()
    symbols = {**dataclasses.asdict(config), "d_in": SHAPE.d_in, "d_out": SHAPE.d_out}
    told = {
        tensor: (eval(shape, {}, symbols), kind == "trained")
        for tensor, shape, kind in TENSOR.findall(inspect.getdoc(variant) or "")
    }
    specs = variant.specs(SHAPE, config)
    assert told == {tensor: (spec.shape, spec.trainable) for tensor, spec in specs.items()}


@pytest.mark.parametrize("name", BUILT_IN)
def test_help_names_every_setting_with_its_default(name: str) -> None:
    config_class = ll.VARIANTS[name].config_class
    text = inspect.getdoc(config_class) or ""
    wanted = defaults(config_class)
    assert dict(SETTING.findall(text)) == {
        field: default for field, default in wanted.items() if field not in TOLD_BY_THE_BASE
    }
    assert all(re.search(rf"\b{field}\b", text) for field in (*TOLD_BY_THE_BASE, *config_class.unused))
    assert "help(ll.AdapterConfig)" in text


def test_help_of_the_common_settings_names_all_of_them() -> None:
    text = inspect.getdoc(ll.AdapterConfig) or ""
    assert dict(SETTING.findall(text)) == defaults(ll.AdapterConfig)


@pytest.mark.parametrize("name", BUILT_IN)
def test_help_names_the_paper(name: str) -> None:
    variant = ll.VARIANTS[name]
    assert variant.reference is not None
    for documented in (variant, variant.config_class):
        assert f"arXiv:{variant.reference.arxiv}" in (inspect.getdoc(documented) or "")


def public_members(owner: type) -> list[tuple[str, Any]]:
    """Methods and properties that a user may call, of a class of ours; not what torch gives it."""
    ours = {name for kind in owner.__mro__ if kind.__module__.startswith("lora_lite") for name in vars(kind)}
    members = ((name, getattr(owner, name)) for name in sorted(ours) if not name.startswith("_"))
    return [
        (f"{owner.__name__}.{name}", member)
        for name, member in members
        if isinstance(member, property) or inspect.isroutine(member)
    ]


def test_every_public_name_has_a_docstring() -> None:
    exported = [(name, getattr(ll, name)) for name in ll.__all__ if callable(getattr(ll, name))]
    members = [pair for _, one in exported if inspect.isclass(one) for pair in public_members(one)]
    assert [name for name, one in (*exported, *members) if not inspect.getdoc(one)] == []
