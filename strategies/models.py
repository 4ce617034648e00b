"""Recipes of whole architectures: nested modules of our own, and Qwen3 from a drawn config."""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from strategies.layers import SEEDS, LinearRecipe
from strategies.options import Fits, Options, accepts, choices, menu, options, ranked, remembered
from strategies.templates import qwen3
from strategies.tensors import DTYPES, WEIGHT_FAMILIES, device, gaussian
from strategies.widths import READOUT, Widths, nested_widths

FULL_RANK = ("gaussian", "uneven", "repeated_singular_values", "orthogonal")


class ModelRecipe(Protocol):
    """What builds a base model and its input."""

    def build(self) -> nn.Module: ...
    def batch(self, seed: int, *, size: int = 2) -> dict[str, Tensor]: ...
    def widths(self) -> list[tuple[int, int]]: ...


@dataclass(frozen=True)
class BlockRecipe:
    """A residual feed-forward block: up, a non-linearity, down; with a keyword call or a plain one.

    turned: its layers store their weights (d_in, d_out).
    """

    width: int
    inner: int
    bias: bool = False
    keyword: bool = False
    turned: bool = False


class Block(nn.Module):
    def __init__(self, recipe: BlockRecipe, dtype: str, family: str, seed: int) -> None:
        super().__init__()
        self.keyword = recipe.keyword
        self.norm = nn.LayerNorm(recipe.width, dtype=DTYPES[dtype], device=device())
        bias, turned = recipe.bias, recipe.turned
        self.up = LinearRecipe(recipe.width, recipe.inner, bias, dtype, family, seed, turned).build()
        self.down = LinearRecipe(recipe.inner, recipe.width, bias, dtype, family, seed + 1, turned).build()

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(input=self.norm(x)) if self.keyword else self.up(self.norm(x))
        return x + self.down(F.gelu(h))  # type: ignore[no-any-return]


class Nested(nn.Module):
    """Blocks in a container of the drawn name, a readout, and a buffer that nobody may touch."""

    def __init__(self, recipe: "NestedRecipe") -> None:
        super().__init__()
        dtype, family, seed = recipe.dtype, recipe.weight, recipe.seed
        self.register_buffer("steps", torch.zeros((), device=device()))
        blocks = (Block(block, dtype, family, seed + 2 * i) for i, block in enumerate(recipe.blocks))
        self.add_module(recipe.container, nn.ModuleList(blocks))
        self.container = recipe.container
        width, readout = recipe.blocks[0].width, recipe.readout
        self.readout = LinearRecipe(width, readout, True, dtype, "gaussian", seed + 99).build()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.get_submodule(self.container).children():
            x = block(x)
        return self.readout(x)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class NestedRecipe:
    """Nested modules. container: the name under which the blocks lie."""

    blocks: tuple[BlockRecipe, ...]
    container: str = "layers"
    dtype: str = "float32"
    weight: str = "gaussian"
    seed: int = 0
    readout: int = READOUT

    def build(self) -> nn.Module:
        return Nested(self)

    def batch(self, seed: int, *, size: int = 2) -> dict[str, Tensor]:
        return {"x": gaussian(seed, "batch", (size, 3, self.blocks[0].width), DTYPES[self.dtype])}

    def widths(self) -> list[tuple[int, int]]:
        """Every linear layer's (d_in, d_out)."""
        pairs = [(block.width, block.inner) for block in self.blocks]
        return [*pairs, *((inner, width) for width, inner in pairs), (self.blocks[0].width, self.readout)]


@dataclass(frozen=True)
class Qwen3Recipe:
    """Qwen3ForCausalLM with random weights: grouped-query attention, gated feed-forward, tied or untied
    head.
    """

    layers: int = 1
    width: int = 8
    inner: int = 12
    heads: int = 2
    kv_heads: int = 1
    tied: bool = False
    dtype: str = "float32"
    seed: int = 0

    VOCABULARY = 11
    HEAD_DIM = 6  # heads × head_dim is not the width, so that q and o are not square

    def build(self) -> nn.Module:
        model = copy.deepcopy(
            qwen3(
                vocab_size=self.VOCABULARY,
                hidden_size=self.width,
                intermediate_size=self.inner,
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                num_key_value_heads=self.kv_heads,
                head_dim=self.HEAD_DIM,
                tie_word_embeddings=self.tied,
            )
        )
        for name, parameter in model.named_parameters():
            # transformers draws weights with a standard deviation of 0.02, too small for anything to show.
            if parameter.ndim == 2:
                values = gaussian(self.seed, name, tuple(parameter.shape)) / parameter.shape[1] ** 0.5
                parameter.data.copy_(values)
        return model.to(dtype=DTYPES[self.dtype], device=device()).eval()  # type: ignore[no-any-return]

    def batch(self, seed: int, *, size: int = 2) -> dict[str, Tensor]:
        draws = gaussian(seed, "tokens", (size, 4))
        return {"input_ids": (draws.abs() * 1000).long() % self.VOCABULARY, "use_cache": False}  # type: ignore[dict-item]

    def widths(self) -> list[tuple[int, int]]:
        """Every linear layer's (d_in, d_out), the head aside."""
        d, q, kv = self.width, self.heads * self.HEAD_DIM, self.kv_heads * self.HEAD_DIM
        return [(d, q), (d, kv), (q, d), (d, self.inner), (self.inner, d)]


@dataclass(frozen=True)
class AdaptedModel:
    """An adapter on every layer of a model that it selects."""

    variant: str
    model: NestedRecipe | Qwen3Recipe
    options: Options
    trained: bool = False
    calibrated: bool = False
    seed: int = 0

    def build(self) -> nn.Module:
        return self.model.build()

    def batch(self) -> dict[str, Tensor]:
        """Keyword arguments of the model."""
        return self.model.batch(self.seed)

    def calibration(self) -> list[dict[str, Tensor]] | None:
        """Batches of unequal size with more tokens than any rank wants; None where not calibrated."""
        if not self.calibrated:
            return None
        return [self.model.batch(self.seed + 1 + i, size=size) for i, size in enumerate((1, 5, 3, 4))]


@st.composite
def block_recipes(draw: st.DrawFn, *, widths: Widths, turns: tuple[bool, ...] = (False, True)) -> BlockRecipe:
    """Shrinks towards a narrow block without bias and with a positional call."""
    return BlockRecipe(
        width=widths.width,
        inner=draw(st.sampled_from(widths.inners)),
        bias=draw(st.booleans()),
        keyword=draw(st.booleans()),
        turned=draw(st.sampled_from(turns)),
    )


@st.composite
def nested_recipes(
    draw: st.DrawFn,
    variant: str,
    chosen: Options,
    *,
    dtypes: Sequence[str] = tuple(DTYPES),
    weights: Sequence[str] = WEIGHT_FAMILIES,
    turns: tuple[bool, ...] = (False, True),
) -> NestedRecipe:
    """Nested modules of widths that the variant takes. Shrinks towards one narrow float32 block."""
    widths = draw(st.sampled_from(nested_widths(variant, chosen)))
    return NestedRecipe(
        blocks=tuple(draw(st.lists(block_recipes(widths=widths, turns=turns), min_size=1, max_size=3))),
        container=draw(st.sampled_from(("layers", "h", "blocks"))),
        dtype=draw(st.sampled_from(dtypes)),
        weight=draw(st.sampled_from(weights)),
        seed=draw(SEEDS),
        readout=widths.readout,
    )


@st.composite
def qwen3_recipes(
    draw: st.DrawFn,
    variant: str,
    chosen: Options,
    *,
    dtypes: Sequence[str] = ("float32", "bfloat16", "float64"),
) -> Qwen3Recipe:
    """Qwen3 of widths that the variant takes. Shrinks towards one layer, one head group, an untied head."""
    shape = draw(st.sampled_from(qwen3_shapes(variant, chosen)))
    return replace(
        shape,
        layers=draw(st.sampled_from((1, 2, 3))),
        tied=draw(st.booleans()),
        dtype=draw(st.sampled_from(dtypes)),
        seed=draw(SEEDS),
    )


@remembered
def qwen3_shapes(variant: str, chosen: Options) -> tuple[Qwen3Recipe, ...]:
    """One layer in each of the shapes of which the variant takes every linear layer with these options."""
    drawn = itertools.product((8, 10), (12, 16), (1, 2), (2, 1))
    shapes = (Qwen3Recipe(width=w, inner=i, heads=kv * h, kv_heads=kv) for w, i, kv, h in drawn)
    return tuple(s for s in shapes if all(accepts(variant, *pair, chosen) for pair in s.widths()))


# In the order in which they are tried for a rank.
KINDS: dict[str, tuple[Callable[[str, Options], Any], Callable[..., st.SearchStrategy[Any]]]] = {
    "nested": (nested_widths, nested_recipes),
    "qwen3": (qwen3_shapes, qwen3_recipes),
}


@remembered
def model_ranks(variant: str, drawn: Options, kinds: tuple[str, ...]) -> tuple[int | None, ...]:
    """The ranks with which there is a model of one of these kinds whose layers all fit."""
    some = menu(variant, drawn).ranks
    return tuple(r for r in some if any(KINDS[kind][0](variant, ranked(drawn, r)) for kind in kinds))


FITS: dict[tuple[str, ...], Fits] = {
    kinds: partial(model_ranks, kinds=kinds) for kinds in (("nested",), ("qwen3",), ("nested", "qwen3"))
}


@st.composite
def adapted_models(
    draw: st.DrawFn,
    variant: str,
    *,
    kinds: tuple[str, ...] = ("nested", "qwen3"),
    dtypes: Sequence[str] | None = None,
    weights: Sequence[str] | None = None,
    turns: tuple[bool, ...] = (False, True),
    adapter_dtypes: Sequence[str] = tuple(DTYPES),
    trained: bool = False,
) -> AdaptedModel:
    """A freshly attached adapter on all linear layers of a model. Shrinks towards one narrow nested block.

    Raises NoShapeError where there is no model of these kinds all of whose layers the variant takes.
    """
    # Calibration wants inputs of full rank: no layer before may be rank-deficient, or saturate units as large
    # weights do.
    needed = ll.VARIANTS[variant].needs_calibration
    drawn = draw(options(variant, dtypes=tuple(adapter_dtypes), fits=FITS[kinds]))
    chosen = ranked(drawn, draw(choices(model_ranks(variant, drawn, kinds))))
    kind = draw(choices(tuple(kind for kind in kinds if KINDS[kind][0](variant, chosen))))
    families = weights or (FULL_RANK if needed else None)
    asked: dict[str, Any] = {"dtypes": dtypes}
    if kind == "nested":
        asked |= {"weights": families, "turns": turns}
    return AdaptedModel(
        variant=variant,
        model=draw(KINDS[kind][1](variant, chosen, **{name: own for name, own in asked.items() if own})),
        options=chosen,
        trained=trained,
        calibrated=needed,
        seed=draw(SEEDS),
    )


def trained_models(variant: str, **ingredients: Any) -> st.SearchStrategy[AdaptedModel]:
    """As adapted_models, at parameters away from init."""
    return adapted_models(variant, trained=True, **ingredients)


# Of blocks that can be run one by one.
trained_nested = partial(trained_models, kinds=("nested",))
