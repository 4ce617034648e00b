"""What the audit writes: its schema, and what a variant says of itself."""

import dataclasses
from typing import Any

import jsonschema
import pytest

import lora_lite as ll
from properties.audit import documents
from properties.audit.report import Block, Report
from properties.audit.schema import schema, validate
from properties.instruments.sample_audit import (
    PORTRAIT,
    audit,
)
from properties.judging.outcome import Outcome
from strategies.options import BUILT_IN

pytestmark = pytest.mark.instruments


def test_the_schema_refuses_what_is_no_report() -> None:
    data = audit(["ia3"], PORTRAIT).to_json()
    validate(data)
    changes: list[dict[str, Any]] = [{"verdict": "FINE"}, {"blocks": [{}]}, {"more": 1}]
    for wrong in changes:
        with pytest.raises(jsonschema.ValidationError):
            validate(data | wrong)
    with pytest.raises(jsonschema.ValidationError):
        validate({name: value for name, value in data.items() if name != "links"})


def test_the_schema_is_one_and_knows_every_field() -> None:
    """What the dataclasses hold, the schema describes."""
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    assert set(made["required"]) == {f.name for f in dataclasses.fields(Report)} | {"verdict"}
    assert set(made["$defs"]["Block"]["required"]) == {f.name for f in dataclasses.fields(Block)}
    assert set(made["$defs"]["Outcome"]["required"]) == {f.name for f in dataclasses.fields(Outcome)}


def test_every_built_in_variant_documents_itself() -> None:
    for name in BUILT_IN:
        about = documents.of_variant(ll.VARIANTS[name])
        assert about.title
        assert "y = " in about.formula
        assert set(about.sections) == set(documents.SECTIONS)
        assert documents.oracle_formula(name)
        assert "def adapt_" in documents.source_of(ll.VARIANTS[name])
        assert "def forward" in documents.oracle_source(name)


def test_the_formula_is_what_is_indented_above_the_sections() -> None:
    """A table of tensors and a section's second line are none of it; what a class inherits is not its own."""
    about = documents.document(
        """A gain.

            y' = (1 + g) y

        Tensors:
            g  (1,)  trained

        Deviations: none,
            but one.
        """
    )
    assert (about.title, about.formula) == ("A gain.", "y' = (1 + g) y")
    assert about.sections == {"Tensors": "g (1,) trained", "Deviations": "none, but one."}
    undocumented = type("Undocumented", (ll.LoRA,), {})
    assert documents.of_variant(undocumented) == documents.Document("", "", {})
