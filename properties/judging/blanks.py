"""Parts of a variant and its oracle that are still as `python -m properties.new` leaves them."""

import ast
import inspect
import os
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any

import lora_lite as ll
from properties.oracles import ORACLES

PARTS = ("specs", "initialise", "adapt_input", "adapt_output")


def of_the_variant(variant: type[ll.Variant]) -> tuple[str, ...]:
    """Where each is, and what is to stand there."""
    own = (vars(variant)[part] for part in PARTS if part in vars(variant))
    return _blanks(*(getattr(function, "__func__", function) for function in own))


def of_the_oracle(variant: type[ll.Variant]) -> tuple[str, ...]:
    """As of_the_variant; none where there is no oracle."""
    oracle = ORACLES.get(variant.name)
    return () if oracle is None else _blanks(oracle.forward, oracle.init_laws)


def _blanks(*functions: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(told for function in functions if (told := _blank(function)) is not None)


@cache
def _blank(function: Callable[..., Any]) -> str | None:
    """Of a function that ends by raising NotImplementedError with a text, whatever it is given."""
    try:
        lines, first = inspect.getsourcelines(function)
        (tree,) = ast.parse(textwrap.dedent("".join(lines))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        # Made without a source, or beside something else on a line: nobody's template.
        return None
    match getattr(tree, "body", [None])[-1]:
        case (
            ast.Raise(
                exc=ast.Call(func=ast.Name("NotImplementedError"), args=[ast.Constant(str(text))])
            ) as end
        ):
            path = os.path.relpath(inspect.getfile(function))
            return f"{path}:{first + end.lineno - 1} {function.__qualname__}: {text}"
    return None
