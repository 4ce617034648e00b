"""Recipes to and from plain JSON: a dataclass is an object that names its kind, a tuple is a list."""

import ast
import importlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any


class RecipeError(ValueError):
    """A recipe that cannot be written as JSON, or JSON that builds no recipe (any more)."""


def to_json(recipe: Any) -> Any:
    """Dataclasses, tuples, strings, numbers, booleans and None as JSON values.

    Raises RecipeError for anything else.
    """
    if is_dataclass(recipe) and not isinstance(recipe, type):
        return {
            "kind": _kind(type(recipe)),
            **{field.name: to_json(getattr(recipe, field.name)) for field in fields(recipe)},
        }
    if isinstance(recipe, tuple):
        return [to_json(value) for value in recipe]
    if recipe is None or type(recipe) in (str, bool, int) or (type(recipe) is float and isfinite(recipe)):
        return recipe
    raise RecipeError(
        f"A recipe holds {recipe!r}, wanted dataclasses, tuples, strings, finite numbers, booleans and None."
    )


def from_json(value: Any) -> Any:
    """What to_json wrote. A field that is not there has its default.

    Raises RecipeError where a kind or a field no longer exists, or one without a default is missing.
    """
    if isinstance(value, list):
        return tuple(from_json(item) for item in value)
    if not isinstance(value, dict):
        return value
    if "kind" not in value:
        raise RecipeError(f"{value} names no kind of recipe.")
    kind = _class(value["kind"])
    given = {name: from_json(item) for name, item in value.items() if name != "kind"}
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        known = ", ".join(field.name for field in fields(kind))
        raise RecipeError(
            f"{value['kind']} no longer takes {given}: {error}; its fields are {known}."
        ) from error


def pasteable(recipe: Any) -> str:
    """The recipe as a line of Python for a prompt after `from strategies import *`, with the imports that it
    needs besides.
    """
    kinds = dict.fromkeys(kind for kind in _kinds(recipe) if _kind(kind) != kind.__name__)
    return "".join(f"from {kind.__module__} import {kind.__name__}; " for kind in kinds) + repr(recipe)


def pasted(line: str) -> Any:
    """The recipe of which pasteable made the line."""
    *imports, recipe = ast.parse(line).body
    namespace = dict(vars(importlib.import_module("strategies")))
    exec(compile(ast.Module(imports, []), "<recipe>", "exec"), namespace)
    assert isinstance(recipe, ast.Expr)
    return eval(compile(ast.Expression(recipe.value), "<recipe>", "eval"), namespace)


def _kinds(recipe: Any) -> Iterator[type]:
    """Of the recipe and of every one inside it."""
    if is_dataclass(recipe) and not isinstance(recipe, type):
        yield type(recipe)
        recipe = tuple(getattr(recipe, field.name) for field in fields(recipe))
    if isinstance(recipe, tuple):
        for part in recipe:
            yield from _kinds(part)


def _kind(recipe: type) -> str:
    """The name under which `strategies` exports the class; with its module where it does not."""
    exported = getattr(importlib.import_module("strategies"), recipe.__name__, None) is recipe
    return recipe.__name__ if exported else f"{recipe.__module__}.{recipe.__qualname__}"


def _class(kind: str) -> Any:
    module, _, name = kind.rpartition(".")
    try:
        found = getattr(importlib.import_module(module or "strategies"), name)
    except (ImportError, AttributeError) as error:
        raise RecipeError(f"There is no recipe {kind} any more: {error}.") from error
    if not (isinstance(found, type) and is_dataclass(found)):
        raise RecipeError(f"{kind} is no recipe.")
    return found
