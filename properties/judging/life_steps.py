"""What the steps of a life share: how an outcome is expected and told, and gradients that stay in range."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import Violation, assert_holds, assert_refuses

# An error and what its message holds; None where the step has to work.
Refusal = tuple[type[Exception], str] | None
NOTHING_ON = (ll.NotAttachedError, "carries no adapter")


def looks(module: nn.Module, *seen: Any) -> None:
    """A hook that changes nothing."""


def trainable(handle: ll.Adapter) -> dict[str, bool]:
    """As it is before the user freezes any of it: parameters train and buffers do not."""
    return dict.fromkeys(dict(handle.named_parameters()), True) | dict.fromkeys(
        dict(handle.named_buffers()), False
    )


def bounded(gradient: Tensor) -> Tensor:
    """No entry above 1, so that a life of any length stays within numbers that every dtype can hold."""
    largest = gradient.abs().max()
    return gradient / largest if 0 < largest < torch.inf else torch.zeros_like(gradient)


@contextmanager
def telling(step: str) -> Iterator[None]:
    """A violation says after which step; and so does whatever a model raises that cannot be looked at any
    more.
    """
    try:
        yield
    except Violation as violation:
        raise Violation(f"after {step}: {violation}", tensor=violation.tensor) from None
    except Exception as error:
        raise Violation(f"after {step}: raised {type(error).__name__}: {error}") from error


@contextmanager
def outcome(refusal: Refusal) -> Iterator[None]:
    """The body raises this error with this in its message, or, where it is None, nothing."""
    with assert_refuses(*refusal, claim="the step") if refusal else nullcontext():
        yield


@contextmanager
def warned(of: str | None) -> Iterator[None]:
    """The body warns once, with this in its message, or, where it is None, never."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    told = [str(one.message) for one in caught]
    right = not told if of is None else len(told) == 1 and of in told[0]
    assert_holds(
        right, claim=f"the step warns {told}, wanted {'no warning' if of is None else f'one of {of!r}'}"
    )
