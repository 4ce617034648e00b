"""Recipes of whole architectures: nested modules of our own, and Qwen3 from a drawn config."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from strategies.layers import SEEDS, LinearRecipe
from strategies.options import Options, options, ranks
from strategies.tensors import DTYPES, WEIGHT_FAMILIES, device, gaussian

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
        self.readout = LinearRecipe(recipe.blocks[0].width, 3, True, dtype, "gaussian", seed + 99).build()

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

    def build(self) -> nn.Module:
        return Nested(self)

    def batch(self, seed: int, *, size: int = 2) -> dict[str, Tensor]:
        return {"x": gaussian(seed, "batch", (size, 3, self.blocks[0].width), DTYPES[self.dtype])}

    def widths(self) -> list[tuple[int, int]]:
        """Every linear layer's (d_in, d_out)."""
        pairs = [(block.width, block.inner) for block in self.blocks]
        return [*pairs, *((inner, width) for width, inner in pairs), (self.blocks[0].width, 3)]


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
        # Seconds to import, and only wanted here.
        from transformers import Qwen3Config, Qwen3ForCausalLM

        config = Qwen3Config(
            vocab_size=self.VOCABULARY,
            hidden_size=self.width,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.HEAD_DIM,
            tie_word_embeddings=self.tied,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model: Any = Qwen3ForCausalLM(config)
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
def block_recipes(draw: st.DrawFn, *, width: int) -> BlockRecipe:
    """Shrinks towards a narrow block without bias and with a positional call."""
    return BlockRecipe(
        width=width,
        inner=draw(st.sampled_from((4, 6, 9))),
        bias=draw(st.booleans()),
        keyword=draw(st.booleans()),
        turned=draw(st.booleans()),
    )


@st.composite
def nested_recipes(
    draw: st.DrawFn, *, dtypes: Sequence[str] = tuple(DTYPES), weights: Sequence[str] = WEIGHT_FAMILIES
) -> NestedRecipe:
    """Nested modules. Shrinks towards one narrow float32 block."""
    width = draw(st.sampled_from((4, 5, 8)))
    return NestedRecipe(
        blocks=tuple(draw(st.lists(block_recipes(width=width), min_size=1, max_size=3))),
        container=draw(st.sampled_from(("layers", "h", "blocks"))),
        dtype=draw(st.sampled_from(dtypes)),
        weight=draw(st.sampled_from(weights)),
        seed=draw(SEEDS),
    )


@st.composite
def qwen3_recipes(
    draw: st.DrawFn, *, dtypes: Sequence[str] = ("float32", "bfloat16", "float64")
) -> Qwen3Recipe:
    """Qwen3. Shrinks towards one layer, one head group, an untied head."""
    kv_heads = draw(st.sampled_from((1, 2)))
    return Qwen3Recipe(
        layers=draw(st.sampled_from((1, 2, 3))),
        width=draw(st.sampled_from((8, 10))),
        inner=draw(st.sampled_from((12, 16))),
        heads=kv_heads * draw(st.sampled_from((2, 1))),
        kv_heads=kv_heads,
        tied=draw(st.booleans()),
        dtype=draw(st.sampled_from(dtypes)),
        seed=draw(SEEDS),
    )


@st.composite
def adapted_models(
    draw: st.DrawFn,
    variant: str,
    *,
    models: st.SearchStrategy[NestedRecipe | Qwen3Recipe] | None = None,
    adapter_dtypes: Sequence[str] = tuple(DTYPES),
    trained: bool = False,
) -> AdaptedModel:
    """A freshly attached adapter on all linear layers of a model. Shrinks towards one narrow nested block."""
    # Calibration wants inputs of full rank: no layer before may be rank-deficient, or saturate units as large
    # weights do.
    weights = FULL_RANK if ll.VARIANTS[variant].needs_calibration else WEIGHT_FAMILIES
    model = draw(
        models if models is not None else st.one_of(nested_recipes(weights=weights), qwen3_recipes())
    )
    drawn = draw(
        options(variant, dtypes=tuple(adapter_dtypes)).filter(
            lambda chosen: common_ranks(variant, model, chosen)
        )
    )
    r = draw(st.sampled_from(common_ranks(variant, model, drawn)))
    return AdaptedModel(
        variant=variant,
        model=model,
        options=drawn if r is None else (("r", r), *drawn),
        trained=trained,
        calibrated=ll.VARIANTS[variant].needs_calibration,
        seed=draw(SEEDS),
    )


def common_ranks(variant: str, model: NestedRecipe | Qwen3Recipe, drawn: Options) -> tuple[int | None, ...]:
    """The ranks that fit every linear layer of the model."""
    fits = [set(ranks(variant, d_in, d_out, drawn)) for d_in, d_out in model.widths()]
    return tuple(sorted(set.intersection(*fits), key=lambda r: r or 0))


def trained_models(variant: str, **ingredients: Any) -> st.SearchStrategy[AdaptedModel]:
    """As adapted_models, at parameters away from init."""
    return adapted_models(variant, trained=True, **ingredients)


def trained_nested(variant: str) -> st.SearchStrategy[AdaptedModel]:
    """As trained_models, of blocks that can be run one by one."""
    weights = FULL_RANK if ll.VARIANTS[variant].needs_calibration else WEIGHT_FAMILIES
    return trained_models(variant, models=nested_recipes(weights=weights))
