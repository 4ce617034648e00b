"""Every base dtype with every adapter dtype: under autocast, and with numbers far from the usual ones."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from properties.judging.assertions import assert_close, assert_holds
from properties.judging.claim import every_variant
from properties.judging.tolerance import Bounded, coarser, rounding
from properties.subjects.observe import expected, has_oracle, observe, subject
from strategies import DTYPES, AdaptedLayer, LinearRecipe, trained_layers
from strategies.options import Options, accepts, own_options


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


@every_variant(autocasts, share=0.5, applies=has_oracle, shows="autocast")
def test_under_autocast_the_output_is_the_oracles(case: Autocast) -> None:
    """Of a base that computes in autocast's dtype; and so are the gradients of the adapter's parameters."""
    (layer,) = observe(subject(case.layer), case.run)
    assert_holds(layer.y.dtype == case.base_dtype, claim=f"under autocast the output is {layer.y.dtype}")
    wanted = expected(layer, base=coarser(case.base_dtype, layer.x.dtype))
    # Stored in autocast's dtype, whose smallest numbers are not those of the coarser one.
    stored = rounding(wanted.y.value, case.base_dtype)
    assert_close(
        layer.y,
        Bounded(wanted.y.value, wanted.y.error + stored),
        claim="the output under autocast is the oracle's",
    )
    for name, gradient in layer.gradients.items():
        assert_close(
            gradient, wanted.gradients[name], claim=f"the gradient of {name} under autocast is the oracle's"
        )


def extreme(variant: str, options: Options) -> st.SearchStrategy[Options]:
    """Every number among the variant's own options a thousandth or a hundred times of what it is, if the
    config takes that.
    """

    def scaled(value: Any, factor: float) -> Any:
        return value * factor if isinstance(value, float) else value

    own = own_options(variant)
    candidates = [
        tuple((name, scaled(value, factor) if name in own else value) for name, value in options)
        for factor in (1, 1e-3, 100)
    ]
    return st.sampled_from([chosen for chosen in candidates if takes(variant, chosen)])


def takes(variant: str, options: Options) -> bool:
    return accepts(variant, 64, 64, options)


@st.composite
def far_layers(draw: st.DrawFn, variant: str) -> AdaptedLayer:
    """Large ranks on wide layers, and extreme options. Shrinks towards what is usual."""
    case: AdaptedLayer = draw(
        trained_layers(variant, tokens=((3,),), weights=("gaussian", "tiny", "huge", "zero_rows"))
    )
    d_in, d_out = draw(st.sampled_from(((17, 24), (64, 17), (64, 64))))
    options = draw(extreme(variant, tuple((name, value) for name, value in case.options if name != "r")))
    ranks = [r for r in (1, 2, 4, 8, 16, 32, 64) if accepts(variant, d_in, d_out, (*options, ("r", r)))]
    if ranks:
        options = (("r", draw(st.sampled_from(ranks))), *options)
    linear: LinearRecipe = replace(case.linear, d_in=d_in, d_out=d_out)
    return replace(case, linear=linear, options=options)


def assert_finite_where(got: Tensor, bound: Bounded, *, claim: str) -> None:
    """Finite wherever the dtype can hold what the oracle says."""
    fits = bound.error.reshape(got.shape) != torch.inf
    bad = ~torch.isfinite(got) & fits
    assert_holds(
        not bool(bad.any()), claim=f"{claim}: {int(bad.sum())} of {got.numel()} entries are not finite"
    )


@every_variant(far_layers, share=0.5, applies=has_oracle)
def test_output_and_gradients_are_finite_at_any_rank_and_strength(case: AdaptedLayer) -> None:
    """In every dtype, wherever the dtype can hold what the formula gives."""
    (layer,) = observe(subject(case))
    wanted = expected(layer)
    assert_finite_where(layer.y, wanted.y, claim="the output")
    assert_finite_where(layer.dx, wanted.dx, claim="the gradient of the input")
    for name, gradient in layer.gradients.items():
        assert_finite_where(gradient, wanted.gradients[name], claim=f"the gradient of {name}")
