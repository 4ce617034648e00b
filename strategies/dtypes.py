"""Recipes of layers under autocast, and of numbers far from the usual ones."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from strategies.layers import AdaptedLayer, LinearRecipe, resized, trained_layers
from strategies.options import Options, fitting, menu, near_all, own_options, ranked
from strategies.tensors import DTYPES


@dataclass(frozen=True)
class Autocast:
    """A layer run under torch.autocast to this dtype."""

    layer: AdaptedLayer
    dtype: str

    def run(self, model: nn.Module) -> Tensor:
        x = self.layer.x()
        with torch.autocast(x.device.type, dtype=DTYPES[self.dtype]):
            return model(x)  # type: ignore[no-any-return]

    @property
    def base_dtype(self) -> torch.dtype:
        """What autocast makes of the base: float64 is left alone."""
        own = self.layer.base_dtype
        return own if own == torch.float64 else DTYPES[self.dtype]


def autocasts(variant: str) -> st.SearchStrategy[Autocast]:
    """Any layer, under both dtypes that autocast knows."""
    return st.builds(Autocast, trained_layers(variant), st.sampled_from(("bfloat16", "float16")))


def extreme(variant: str, options: Options) -> st.SearchStrategy[Options]:
    """Every number among the variant's own options a thousandth or a hundred times of what it is, if the
    config takes that.
    """

    def scaled(value: Any, factor: float) -> Any:
        return value * factor if isinstance(value, float) else value

    own = own_options(variant)
    first, *others = (
        tuple((name, scaled(value, factor) if name in own else value) for name, value in options)
        for factor in (1, 1e-3, 100)
    )
    return st.sampled_from([first, *(chosen for chosen in others if fitting(variant, chosen))])


FAR = ((17, 24), (64, 17), (64, 64))


@st.composite
def far_layers(draw: st.DrawFn, variant: str) -> AdaptedLayer:
    """Large ranks on wide layers, and extreme options. Shrinks towards what is usual."""
    case: AdaptedLayer = draw(
        trained_layers(variant, tokens=((3,),), weights=("gaussian", "tiny", "huge", "zero_rows"))
    )
    options = draw(extreme(variant, tuple((name, value) for name, value in case.options if name != "r")))
    usual = menu(variant, options).ranks
    tried = usual if usual == (None,) else (*usual, *(r for r in (16, 32, 64) if r not in usual))
    shapes = {r: near_all(variant, FAR, ranked(options, r)) for r in tried}
    r = draw(st.sampled_from([r for r, found in shapes.items() if found]))
    d_in, d_out = draw(st.sampled_from(shapes[r]))
    options = ranked(options, r)
    linear: LinearRecipe = replace(case.linear, d_in=d_in, d_out=d_out)
    return replace(case, linear=linear, options=options)


def wide_in_half_precision(variant: str) -> st.SearchStrategy[AdaptedLayer]:
    """Trained layers with a base in float16; squares along its rows and columns add up to more than float16
    holds.
    """
    cases = trained_layers(
        variant, weights=("vast",), base_dtypes=("float16",), adapter_dtypes=("float16", "bfloat16")
    )
    return cases.map(partial(resized, d_in=24, d_out=24))
