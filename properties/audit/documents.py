"""Reads what a variant's module docstring states: title, formula, identity, deviations; and the same of its
oracle.
"""

import inspect
import re
import sys
import textwrap
from dataclasses import dataclass

import lora_lite as ll
from properties.judging.expected import adapts_input
from properties.oracles import ORACLES

SECTIONS = ("Reference", "Identity at init", "First step", "Deviations")


@dataclass(frozen=True)
class Document:
    """The parts of a docstring; empty where it has none."""

    title: str
    formula: str
    sections: dict[str, str]


def document(text: str | None) -> Document:
    """Title up to the first blank line, formula: the indented lines, and the named sections, each up to the
    next.
    """
    text = inspect.cleandoc(text or "")
    title = " ".join(text.split("\n\n")[0].split())
    formula = textwrap.dedent("\n".join(line for line in text.splitlines() if line.startswith("    ")))
    found = re.split(rf"^({'|'.join(SECTIONS)}):", text, flags=re.MULTILINE)
    sections = {
        name: " ".join(body.split("\n\n")[0].split())
        for name, body in zip(found[1::2], found[2::2], strict=True)
    }
    return Document(title, formula.strip(), sections)


def of_variant(variant: type[ll.Variant]) -> Document:
    """A built-in variant documents its module; a user's may document its class."""
    module = document(sys.modules[variant.__module__].__doc__)
    own = document(variant.__dict__.get("__doc__"))
    return module if module.formula or not own.formula else own


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
    """The reference's formula as its docstring states it."""
    module = oracle_module(variant)
    return inspect.cleandoc(sys.modules[module].__doc__ or "") if module else ""


def oracle_source(variant: str) -> str:
    """The text of the reference's forward."""
    return inspect.getsource(ORACLES[variant].forward) if variant in ORACLES else ""
