"""Recipes of the whole range of numbers: settings and weights at the ends of what their types hold."""

import dataclasses
import math
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import nn

import lora_lite as ll
from strategies.layers import SEEDS
from strategies.options import simplest
from strategies.tensors import DTYPES, device, gaussian

WIDTH = 4
# What a float may be: zero, subnormal in one type or another, ordinary, the largest of each.
TINY = (
    0.0,
    5e-324,
    1e-310,
    2.3e-308,
    1e-150,
    1e-46,
    1e-40,
    1.2e-38,
    2.4e-38,
    1e-30,
    1e-20,
    1.1e-19,
    1e-8,
    6.2e-5,
)
LARGE = (100.0, 65504.0, 1e10, 1.8e19, 1e20, 1e30, 3.4e38, 1e39, 1e150, 1e300, 1.7e308)
# Whole numbers where floats are wanted: none has a limit of its own.
LONG = (2**64, 10**38, 10**300, 10**400)
NUMBERS = (1.0, *TINY, 0.1, 3.0, math.nextafter(math.pi, 0), *LARGE, *LONG)
WHOLE = (-1, 0, 1, 2, 4, 1000, 2**12, 2**20, 2**20 + 1, 2**31, 2**63, *LONG)
# Powers of two: from below the smallest number of each dtype to its largest.
EXPONENTS = {"float32": (-148, 125), "bfloat16": (-132, 125), "float16": (-23, 14), "float64": (-1072, 1020)}


@dataclass(frozen=True)
class Setting:
    """A variant's config, of which one field gets one number after the other, in each dtype."""

    variant: str
    field: str
    seed: int = 0

    def config(self, number: float, dtype: torch.dtype) -> ll.AdapterConfig:
        """With the field at this number. Raises ConfigError where it cannot be."""
        kind, options = ll.VARIANTS[self.variant].config_class, dict(simplest(self.variant))
        rank = {} if "r" in kind.unused else {"r": 2}
        options |= {**rank, self.field: number, "dtype": dtype}
        return kind(**options)


def float_fields(variant: str) -> list[str]:
    """The variant's settings that are floats."""
    kind = ll.VARIANTS[variant].config_class
    fields = [field for field in dataclasses.fields(kind) if field.name not in kind.unused]
    return [field.name for field in fields if isinstance(field.default, float)]


def whole_fields(variant: str) -> list[str]:
    """The variant's settings that are whole numbers."""
    kind = ll.VARIANTS[variant].config_class
    fields = [field for field in dataclasses.fields(kind) if field.name not in kind.unused]
    values = {field.name: (field.default, *field.metadata.get("values", ())) for field in fields}
    return [name for name, held in values.items() if any(type(value) is int for value in held)]


def settings(variant: str) -> st.SearchStrategy[Setting]:
    """Shrinks towards the first field."""
    return st.builds(
        Setting,
        st.just(variant),
        st.sampled_from(float_fields(variant)),
        SEEDS,
    )


@dataclass(frozen=True)
class Weights:
    """A square layer of gaussian entries times a power of two: those of some rows, some columns or all."""

    variant: str
    exponent: int
    of: str = "all"
    dtype: str = "float32"
    adapter: str = "float32"
    seed: int = 0

    def build(self) -> nn.Sequential:
        layer = nn.Linear(WIDTH, WIDTH, bias=False, dtype=DTYPES[self.dtype], device=device())
        numbers = gaussian(self.seed, "weight", (WIDTH, WIDTH)).double().clamp(-3, 3)
        scale = torch.ones(WIDTH, WIDTH, dtype=torch.float64, device=device())
        part = {"all": ..., "rows": slice(2), "columns": (slice(None), slice(2))}[self.of]
        scale[part] = 2.0**self.exponent  # type: ignore[index]  # as slices are
        with torch.no_grad():
            layer.weight.copy_(numbers * scale)
        return nn.Sequential(layer)


@st.composite
def weights(draw: st.DrawFn, variant: str) -> Weights:
    """Shrinks towards ordinary numbers in float32."""
    dtype = draw(st.sampled_from(tuple(EXPONENTS)))
    adapter = draw(st.sampled_from(("float64", "float32"))) if dtype == "float64" else "float32"
    low, high = EXPONENTS[dtype]
    if dtype != adapter:
        # Around the smallest numbers that the narrower of the two holds.
        low = max(low, -170)
    exponent = draw(st.integers(0, high) | st.integers(low, 0) | st.integers(low, low // 2))
    return Weights(
        variant, exponent, draw(st.sampled_from(("all", "rows", "columns"))), dtype, adapter, draw(SEEDS)
    )
