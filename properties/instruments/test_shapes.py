"""Layers and models are made in the shapes that a variant takes, however few, and nothing is thrown away."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings

import lora_lite as ll
from lora_lite.spec import zeros
from properties.instruments.strangers.shared import Unranked
from properties.judging.claim import load_claims
from properties.judging.outcome import NotJudgedError
from strategies import adapted_layers, adapted_models
from strategies.options import NoShapeError, forget, simplest

pytestmark = pytest.mark.instruments

Takes = Callable[[int, int], bool]


@pytest.fixture
def picky() -> Iterator[Callable[[Takes], str]]:
    """Registers a bias that goes on these shapes alone."""

    def register(takes: Takes) -> str:
        config = type("PickyConfig", (Unranked,), {"variant": "picky"})

        def check(cls: Any, shape: ll.LinearShape, config: Any) -> None:
            if not takes(shape.d_in, shape.d_out):
                raise ll.ConfigError(f"picky: not on {shape.d_in} → {shape.d_out}.")

        body = {
            "name": "picky",
            "config_class": config,
            "check": classmethod(check),
            "specs": classmethod(lambda cls, shape, config: {"c": ll.ParamSpec((1,), zeros, "nonzero")}),
            "adapt_output": lambda self, x, y, layer: y + self.c,
        }
        forget()
        ll.register(type("Picky", (ll.Variant,), body))
        return "picky"

    yield register
    ll.VARIANTS.pop("picky", None)
    forget()


def strict(examples: int) -> settings:
    """No health check is put off."""
    return settings(max_examples=examples, database=None, suppress_health_check=())


@pytest.mark.parametrize(
    "takes",
    [lambda i, o: o % 2 == 0, lambda i, o: i % 10 == 0 and o % 10 == 0, lambda i, o: (i, o) == (24, 24)],
    ids=["even outputs", "multiples of ten", "one shape"],
)
def test_every_drawn_layer_and_model_is_one_that_it_takes(takes: Takes, picky: Any) -> None:
    name = picky(takes)

    @strict(30)
    @given(adapted_layers(name))
    def layers(case: Any) -> None:
        assert takes(case.linear.d_in, case.linear.d_out)

    @strict(30)
    @given(adapted_models(name))
    def models(case: Any) -> None:
        assert all(takes(*pair) for pair in case.model.widths())

    layers()
    models()


def test_one_that_takes_no_layer_is_told_so(picky: Any) -> None:
    with pytest.raises(NoShapeError, match=r"picky: found no layer .* says: picky: not on 8 → 8"):
        simplest(picky(lambda i, o: False))


def test_one_that_fits_no_model_is_not_judged_on_models(picky: Any) -> None:
    name = picky(lambda i, o: i > o)
    with pytest.raises(NotJudgedError, match="picky: found no layer"):
        load_claims()["base_gets_no_gradient"].run(name, strict(5))
