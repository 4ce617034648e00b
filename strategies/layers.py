"""Recipes of one linear layer and of the adapter on it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from strategies.options import Options, choices, fitting, near, options, ranked, ranks, remembered
from strategies.tensors import DTYPES, WEIGHT_FAMILIES, device, gaussian, weight

BOOLEANS = st.booleans()
SEEDS = st.integers(0, 2**16 - 1)
# () is a single vector, (0,) an empty batch.
TOKENS: tuple[tuple[int, ...], ...] = ((), (1,), (3,), (2, 2), (0,))


class Turned(nn.Module):
    """A linear layer as GPT-2 has it in transformers, where it is called Conv1D: x W + b, W (d_in, d_out)."""

    bias: nn.Parameter | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.nx, self.nf = weight.shape
        self.weight = nn.Parameter(weight)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias))

    def forward(self, input: Tensor) -> Tensor:  # as nn.Linear calls it
        flat = input.reshape(-1, self.nx)
        y = flat @ self.weight if self.bias is None else torch.addmm(self.bias, flat, self.weight)
        return y.view(*input.shape[:-1], self.nf)


LINEAR = (nn.Linear, Turned)


def upright(layer: nn.Module, weight: Tensor) -> Tensor:
    """A weight as the layer stores it, as (d_out, d_in)."""
    return weight.mT if isinstance(layer, Turned) else weight


def weight_and_bias(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """W (d_out, d_in) and b of a linear layer, detached."""
    held: Any = layer
    return upright(layer, held.weight.detach()), None if held.bias is None else held.bias.detach()


@dataclass(frozen=True)
class LinearRecipe:
    """A linear layer. weight: one of strategies.WEIGHT_FAMILIES, or "vast". turned: a Turned one."""

    d_in: int
    d_out: int
    bias: bool = False
    dtype: str = "float32"
    weight: str = "gaussian"
    seed: int = 0
    turned: bool = False

    def build(self) -> nn.Linear | Turned:
        """The layer, its parameters requiring gradients as a user's would."""
        dtype = DTYPES[self.dtype]
        W = weight(self.weight, self.seed, self.d_out, self.d_in, dtype)
        bias = gaussian(self.seed, "bias", (self.d_out,), dtype) if self.bias else None
        if self.turned:
            return Turned(W.mT.contiguous(), bias)
        # Without nn.Linear's own init, which would be thrown away.
        layer = nn.Linear.__new__(nn.Linear)
        nn.Module.__init__(layer)
        layer.in_features, layer.out_features = self.d_in, self.d_out
        layer.weight = nn.Parameter(W)
        layer.register_parameter("bias", None if bias is None else nn.Parameter(bias))
        return layer


@dataclass(frozen=True)
class AdaptedLayer:
    """An adapter on a linear layer, with the input, the upstream gradient and the calibration data that go
    with it.

    trained     its parameters are moved away from init, as training would
    calibrated  attach is given calibration data
    """

    variant: str
    linear: LinearRecipe
    options: Options
    tokens: tuple[int, ...] = (3,)
    trained: bool = False
    calibrated: bool = False
    seed: int = 0

    def build(self) -> nn.Module:
        """The base model: the layer, in a container as layers are."""
        return nn.Sequential(self.linear.build())

    def x(self) -> Tensor:
        """Input (*tokens, d_in) in the base dtype."""
        return gaussian(self.seed, "x", (*self.tokens, self.linear.d_in), self.base_dtype)

    def upstream(self, shape: torch.Size) -> Tensor:
        """Gradient of some loss with respect to the output, of the output's shape."""
        return gaussian(self.seed, "upstream", tuple(shape), self.base_dtype)

    def calibration(self) -> list[Tensor] | None:
        """Batches of unequal length whose inputs have a mean and unequal variances; None where not
        calibrated.
        """
        if not self.calibrated:
            return None
        return calibration_batches(self.seed, self.linear.d_in, self.base_dtype)

    @property
    def base_dtype(self) -> torch.dtype:
        return DTYPES[self.linear.dtype]

    @cached_property
    def option(self) -> dict[str, Any]:
        """The options by name."""
        return dict(self.options)


def calibration_batches(seed: int, d_in: int, dtype: torch.dtype) -> list[Tensor]:
    """More tokens than any rank wants, in three unequal batches."""
    tokens = gaussian(seed, "calibration", (2 * d_in + 10, d_in))
    tokens = 1 + tokens * 1.5 ** -torch.arange(d_in, device=device()).clamp(max=6)
    return list(torch.split(tokens.to(dtype), [1, 8, 2 * d_in + 1]))


@st.composite
def linear_recipes(
    draw: st.DrawFn,
    *,
    d_in: st.SearchStrategy[int],
    d_out: st.SearchStrategy[int],
    weights: Sequence[str] = WEIGHT_FAMILIES,
    dtypes: Sequence[str] = tuple(DTYPES),
    biases: Sequence[bool] = (False, True),
    turns: Sequence[bool] = (False,),
) -> LinearRecipe:
    """A linear layer. Shrinks towards narrow, float32, gaussian, no bias, nn.Linear."""
    return LinearRecipe(
        d_in=draw(d_in),
        d_out=draw(d_out),
        bias=draw(choices(tuple(biases))),
        dtype=draw(choices(tuple(dtypes))),
        weight=draw(choices(tuple(weights))),
        seed=draw(SEEDS),
        turned=draw(choices(tuple(turns))),
    )


# Hypothesis examines a strategy before its first draw: one that is kept is examined once.
@lru_cache(maxsize=4096)
def _linears(
    d_in: int,
    d_out: int,
    weights: tuple[str, ...],
    dtypes: tuple[str, ...],
    biases: tuple[bool, ...],
    turns: tuple[bool, ...],
) -> st.SearchStrategy[LinearRecipe]:
    widths = {"d_in": st.just(d_in), "d_out": st.just(d_out)}
    return linear_recipes(**widths, weights=weights, dtypes=dtypes, biases=biases, turns=turns)


@lru_cache(maxsize=4096)
def _options(variant: str, dtypes: tuple[str, ...]) -> st.SearchStrategy[Options]:
    return options(variant, dtypes=dtypes)


def _wide(widths: tuple[int, ...], least: int) -> tuple[int, ...]:
    return tuple(width for width in widths if width >= least) or widths


@remembered
def _widths(variant: str, drawn: Options, least: int) -> tuple[int, ...]:
    """Of inputs, those with which there is an output that is wide too."""
    both = tuple(d for d in fitting(variant, drawn) if max(fitting(variant, drawn, d)) >= least)
    return _wide(both or fitting(variant, drawn), least)


def can_calibrate(variant: str) -> bool:
    """Whether the variant's init can make use of calibration data."""
    return ll.VARIANTS[variant].calibrator.__func__ is not ll.Variant.calibrator.__func__  # type: ignore[attr-defined]


@st.composite
def adapted_layers(
    draw: st.DrawFn,
    variant: str,
    *,
    adapter_dtypes: Sequence[str] = tuple(DTYPES),
    base_dtypes: Sequence[str] = tuple(DTYPES),
    weights: Sequence[str] = WEIGHT_FAMILIES,
    biases: Sequence[bool] = (False, True),
    turns: Sequence[bool] = (False, True),
    tokens: Sequence[tuple[int, ...]] = TOKENS,
    least: int = 1,
    trained: bool = False,
) -> AdaptedLayer:
    """A freshly attached adapter on a layer that it fits, at least so wide where it fits such.

    Shrinks towards a narrow float32 layer of rank 1 and one vector.
    """
    drawn = draw(_options(variant, tuple(adapter_dtypes)))
    d_in = draw(choices(_widths(variant, drawn, least)))
    d_out = draw(choices(_wide(fitting(variant, drawn, d_in), least)))
    r = draw(choices(ranks(variant, d_in, d_out, drawn)))
    needed = ll.VARIANTS[variant].needs_calibration
    return AdaptedLayer(
        variant=variant,
        linear=draw(_linears(d_in, d_out, tuple(weights), tuple(base_dtypes), tuple(biases), tuple(turns))),
        options=ranked(drawn, r),
        tokens=draw(choices(tuple(tokens))),
        trained=trained,
        calibrated=needed or (can_calibrate(variant) and draw(BOOLEANS)),
        seed=draw(SEEDS),
    )


def trained_layers(variant: str, **ingredients: Any) -> st.SearchStrategy[AdaptedLayer]:
    """As adapted_layers, at parameters away from init."""
    return adapted_layers(variant, trained=True, **ingredients)


def resized(case: AdaptedLayer, *, d_in: int, d_out: int, **options: Any) -> AdaptedLayer:
    """The case on a layer of this shape, or of the nearest that its variant takes with these options in place
    of its own; as it was where there is none.
    """
    chosen = tuple({**case.option, **options}.items())
    shape = near(case.variant, d_in, d_out, chosen)
    if shape is None:
        return case
    return replace(case, linear=replace(case.linear, d_in=shape[0], d_out=shape[1]), options=chosen)
