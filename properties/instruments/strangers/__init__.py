"""Adapters that nobody here designed, each as a user would write it from its paper, with its oracle."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import lora_lite as ll
from properties.oracles import ORACLES, Oracle

NAMES = (
    *("vera", "oft", "boft", "loha", "lokr", "bitfit"),
    *("ssf", "miss", "randlora", "fourierft", "shira", "full_copy"),
)
# Each was called wrong by claims that were about ours: no identity at init, sums that cancel, square layers.
FURTHER = ("vector_bank", "mora", "circulant")


@cache
def _made(name: str) -> tuple[type[ll.Variant], Oracle]:
    """The variant and its oracle; neither stays registered."""
    variants, oracles = dict(ll.VARIANTS), dict(ORACLES)
    try:
        importlib.import_module(f"{__name__}.{name}")
        return ll.VARIANTS[name], ORACLES[name]
    finally:
        for other in ll.VARIANTS.keys() - variants.keys():
            del ll.VARIANTS[other]
        for other in ORACLES.keys() - oracles.keys():
            del ORACLES[other]


@contextmanager
def registered(name: str, *, oracle: bool = True) -> Iterator[type[ll.Variant]]:
    """While the body runs the variant is known, with its oracle or without."""
    variant, formula = _made(name)
    ll.VARIANTS[name] = variant
    if oracle:
        ORACLES[name] = formula
    try:
        yield variant
    finally:
        ll.VARIANTS.pop(name)
        ORACLES.pop(name, None)
