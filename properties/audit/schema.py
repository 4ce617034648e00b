"""The schema of audit.json, made of the report's dataclasses: their fields, and their docstrings as
descriptions.
"""

import inspect
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import jsonschema

from properties.audit.report import BUGGY, CORRECT, PARTIAL, Report

Schema = dict[str, Any]

# JSON has no name for infinity and NaN: they are told in words.
NUMBER: Schema = {"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}]}
PLAIN: dict[type, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: NUMBER,
    NoneType: {"type": "null"},
}
# What a report holds of others' rows, whose further columns are their own affair.
ROWS: dict[str, dict[str, Schema]] = {
    "speed": {
        **dict.fromkeys(("variant", "implementation", "dtype", "phase"), PLAIN[str]),
        **dict.fromkeys(("d", "r", "tokens", "threads", "samples", "dropped"), PLAIN[int]),
        **dict.fromkeys(("ratio", "q1", "q3"), NUMBER),
    },
    "speed_costs": {
        **dict.fromkeys(("variant", "implementation", "what", "unit"), PLAIN[str]),
        "value": NUMBER,
    },
    "probe_records": {
        **dict.fromkeys(("claim", "variant", "model", "relation", "why"), PLAIN[str]),
        "holds": PLAIN[bool],
        "value": {"type": ["number", "null"]},
        "bound": {"type": ["number", "null"]},
    },
    "capabilities": dict.fromkeys(("variant", "name", "outcome"), PLAIN[str]),
}


def schema() -> Schema:
    """Of the whole file."""
    definitions: dict[str, Schema] = {}
    made = _of_fields(Report, definitions)
    made["properties"] |= {name: rows(name) for name in ROWS}
    made["properties"]["verdict"] = {"enum": [CORRECT, PARTIAL, BUGGY]}
    made["required"].append("verdict")
    definitions["Gaps"]["properties"]["share"] = {"anyOf": [NUMBER, PLAIN[NoneType]]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "audit.json of lora-lite",
        **made,
        "$defs": definitions,
    }


def rows(name: str) -> Schema:
    """Of a list of rows that the report takes from elsewhere."""
    known = ROWS[name]
    return {"type": "array", "items": {"type": "object", "required": [*known], "properties": known}}


def validate(data: Any) -> None:
    """Raises jsonschema.ValidationError."""
    jsonschema.validate(data, schema(), cls=jsonschema.Draft202012Validator)


def _of_fields(kind: Any, definitions: dict[str, Schema]) -> Schema:
    hints = get_type_hints(kind)
    properties = {field.name: _of(hints[field.name], definitions) for field in fields(kind)}
    return {
        "type": "object",
        "description": inspect.cleandoc(kind.__doc__ or ""),
        "required": [*properties],
        "additionalProperties": False,
        "properties": properties,
    }


def _of(hint: Any, definitions: dict[str, Schema]) -> Schema:
    """Of a value of this type; a dataclass goes to the definitions."""
    if hint in PLAIN:
        return PLAIN[hint]
    if hint is Any:
        return {}
    arguments = get_args(hint)
    if get_origin(hint) in (UnionType, Union):
        return {"anyOf": [_of(argument, definitions) for argument in arguments]}
    if get_origin(hint) is list:
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    if not is_dataclass(hint):
        raise TypeError(f"the schema knows no {hint}")
    name = getattr(hint, "__name__", "")
    if name not in definitions:
        definitions[name] = {}
        definitions[name] |= _of_fields(hint, definitions)
    return {"$ref": f"#/$defs/{name}"}
