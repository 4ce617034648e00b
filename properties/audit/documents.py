"""Reads what a variant's class docstring states: title, formula, identity, deviations; and the formula of its
oracle, from that one's module.
"""

import inspect
import re
import sys
import textwrap
from dataclasses import dataclass

import lora_lite as ll
from properties.judging.expected import adapts_input
from properties.oracles import ORACLES

SECTIONS = ("Tensors", "Reference", "Identity at init", "First step", "Deviations")


@dataclass(frozen=True)
class Document:
    """The parts of a docstring; empty where it has none."""

    title: str
    formula: str
    sections: dict[str, str]


def document(text: str | None) -> Document:
    """Title: up to the first blank line. Formula: the indented lines above the first section. Sections: each
    name at the start of a line, with a colon, up to the next one or a blank line.
    """
    text = inspect.cleandoc(text or "")
    head, *found = re.split(rf"^({'|'.join(SECTIONS)}):", text, flags=re.MULTILINE)
    title = " ".join(head.split("\n\n")[0].split())
    formula = textwrap.dedent("\n".join(line for line in head.splitlines() if line.startswith("    ")))
    sections = {
        name: " ".join(body.split("\n\n")[0].split())
        for name, body in zip(found[::2], found[1::2], strict=True)
    }
    return Document(title, formula.strip(), sections)


def of_variant(variant: type[ll.Variant]) -> Document:
    """What the variant's own class says; a docstring that it inherits is another variant's."""
    return document(variant.__dict__.get("__doc__"))


def hook(variant: type[ll.Variant]) -> str:
    """The name of the hook that the variant overrides."""
    return "adapt_input" if adapts_input(variant.name) else "adapt_output"


def source_of(variant: type[ll.Variant]) -> str:
    """The text of the variant's hook."""
    return textwrap.dedent(inspect.getsource(getattr(variant, hook(variant))))


def oracle_module(variant: str) -> str | None:
    """The module that the variant's oracle is written in."""
    return ORACLES[variant].forward.__module__ if variant in ORACLES else None


def oracle_formula(variant: str) -> str:
    """The reference's formula as the docstring of its module states it; empty where there is no reference."""
    if (module := oracle_module(variant)) is None:
        return ""
    return inspect.cleandoc(sys.modules[module].__doc__ or f"not stated in the docstring of {module}")


def oracle_source(variant: str) -> str:
    """The text of the reference's forward."""
    return inspect.getsource(ORACLES[variant].forward) if variant in ORACLES else ""
