"""What a variant can do beside its formula, as the tests found it: the audit's table of variants by
capabilities.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import lora_lite as ll
from properties.judging.assertions import assert_refuses


@contextmanager
def capability(
    request: pytest.FixtureRequest, variant: str, name: str, *, refuses: str | None = None
) -> Iterator[None]:
    """Leaves the "capability" {variant, name, outcome} on pytest's report, the outcome being what the body
    showed.

    "yes" where the body passes, "BUGGY" where it fails. refuses: a pattern; the body must raise a
    LoraLiteError whose message fits, and the outcome is then "refused: " and that message. A test that is
    skipped says "not measured: " and why.
    """
    outcome = "BUGGY"
    try:
        if refuses is None:
            yield
            outcome = "yes"
        else:
            with assert_refuses(ll.LoraLiteError, refuses, claim=f"{variant}: {name}"):
                try:
                    yield
                except ll.LoraLiteError as error:
                    outcome = f"refused: {error}"
                    raise
    except pytest.skip.Exception as reason:
        outcome = f"not measured: {reason}"
        raise
    except BaseException:
        outcome = "BUGGY"
        raise
    finally:
        request.node.user_properties.append(
            ("capability", {"variant": variant, "name": name, "outcome": outcome})
        )
