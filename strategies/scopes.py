"""Recipes of which layers an adapter is to go on: by their names, by their roles, by the index of their
block.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import strategies as st
from torch import nn

from strategies.options import DIMS, FIXED, accepts, ranked, ranks, remembered, simplest

WIDTH = FIXED  # of layers whose shape does not matter

# A pattern is drawn as the alternatives for each of the last parts of a name, so that what it should select
# is told without regular expressions: a name matches where its last parts are among the alternatives.
Pattern = tuple[tuple[str, ...], ...]
LEAVES = ("o_proj", "foo_proj", "q_proj", "proj", "Q_proj", "o_proj2")
PATHS = ("", "layers.0.", "layers.1.", "layers.0.attn.", "layers.10.attn.", "h.1.", "attn.")
ROLES = ("reader", "writer", "inner")


def tree(shapes: Mapping[str, tuple[int, int]]) -> nn.Module:
    """Nested plain modules with a linear layer (d_in, d_out) at each dotted name."""
    root = nn.Module()
    for name, shape in shapes.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.add_module(leaf, nn.Linear(*shape))
    return root


def pattern_text(pattern: Pattern) -> str:
    """The regular expression that it stands for."""
    if len(pattern) == 1:
        return "|".join(pattern[0])
    return r"\.".join(own[0] if len(own) == 1 else f"({'|'.join(own)})" for own in pattern)


def _matches(pattern: Pattern, name: str) -> bool:
    parts = name.split(".")
    ends = parts[-len(pattern) :]
    return len(parts) >= len(pattern) and all(
        part in choice for part, choice in zip(ends, pattern, strict=True)
    )


@dataclass(frozen=True)
class ByName:
    """Layers of these names, and patterns of those to take and to leave out."""

    variant: str
    names: tuple[str, ...]
    target_names: tuple[Pattern, ...]
    exclude_names: tuple[Pattern, ...]

    def build(self) -> nn.Module:
        return tree(dict.fromkeys(self.names, (WIDTH, WIDTH)))

    def taken(self) -> set[str]:
        """Any of target_names (all layers where there is none), less any of exclude_names."""
        return {
            name
            for name in self.names
            if (not self.target_names or any(_matches(p, name) for p in self.target_names))
            and not any(_matches(p, name) for p in self.exclude_names)
        }


@st.composite
def selections_by_name(draw: st.DrawFn, variant: str) -> ByName:
    """Shrinks towards one layer at the root and one pattern."""
    full = st.builds("{}{}".format, st.sampled_from(PATHS), st.sampled_from(LEAVES))
    names = draw(st.lists(full, min_size=1, max_size=7, unique=True))

    @st.composite
    def patterns(draw: st.DrawFn) -> Pattern:
        parts = draw(st.sampled_from(names)).split(".")
        ends = parts[-draw(st.integers(1, len(parts))) :]
        others = st.lists(st.sampled_from(("o_proj", "q_proj", "attn", "0", "1")), max_size=2)
        return tuple(tuple(dict.fromkeys((part, *draw(others)))) for part in ends)

    return ByName(
        variant,
        tuple(names),
        tuple(draw(st.lists(patterns(), max_size=3))),
        tuple(draw(st.lists(patterns(), max_size=2))),
    )


@dataclass(frozen=True)
class ByRole:
    """Layers of these shapes in a model whose config says `hidden_size`, or says nothing (None)."""

    variant: str
    shapes: tuple[tuple[int, int], ...]
    hidden_size: int | None
    target_roles: tuple[str, ...]

    def build(self) -> nn.Module:
        """The layers l0, l1, … in the order of `shapes`."""
        return tree({f"l{i}": shape for i, shape in enumerate(self.shapes)})

    def width(self) -> int | None:
        """The residual width; None where two widths tie."""
        if self.hidden_size is not None:
            return self.hidden_size
        touched = {
            width: sum(width in shape for shape in self.shapes) for shape in self.shapes for width in shape
        }
        most = [width for width in touched if touched[width] == max(touched.values())]
        return most[0] if len(most) == 1 else None

    def of_role(self, role: str, width: int) -> set[str]:
        """The layers of this role, where the residual width is this."""
        return {f"l{i}" for i, shape in enumerate(self.shapes) if has_role(role, shape, width)}


def has_role(role: str, shape: tuple[int, int], width: int) -> bool:
    """Whether a layer (d_in, d_out) reads from, writes to, or lies apart from the residual stream."""
    return {"reader": shape[0] == width, "writer": shape[1] == width, "inner": width not in shape}[role]


@remembered
def role_widths(variant: str) -> tuple[int, ...]:
    """4, 6 and 12, or widths beside 4 that the variant takes in any combination with its simplest options."""
    own = simplest(variant)
    chosen = ranked(own, next(iter(ranks(variant, WIDTH, WIDTH, own)), None))
    found: tuple[int, ...] = ()
    for width in (4, 6, 12, *DIMS):
        pairs = [pair for other in {*found, width} for pair in ((width, other), (other, width))]
        if len(found) < 3 and width not in found and all(accepts(variant, *pair, chosen) for pair in pairs):
            found = (*found, width)
    return found or (WIDTH,)


@st.composite
def selections_by_role(draw: st.DrawFn, variant: str) -> ByRole:
    """Few widths, so that counts come close to each other. Shrinks towards one layer."""
    widths = st.sampled_from(role_widths(variant))
    return ByRole(
        variant,
        tuple(draw(st.lists(st.tuples(widths, widths), min_size=1, max_size=6))),
        draw(st.none() | widths),
        tuple(draw(st.lists(st.sampled_from(ROLES), min_size=1, max_size=3, unique=True))),
    )


@dataclass(frozen=True)
class ByLayer:
    """Blocks with a layer `up` each, and the indices of those to take.

    blocks     how many
    container  where they lie, "" for the model being the container itself
    experts    in each block
    wrapped    the model is the first of so many parts of an outer Sequential, as in sentence-transformers; 0
               for none
    """

    variant: str
    blocks: int
    container: str
    sequential: bool
    experts: int
    wrapped: int
    layers: tuple[int, ...]

    def build(self) -> tuple[nn.Module, dict[str, int]]:
        """The model, and each linear layer's index in the order of the model."""
        parts: dict[str, tuple[int, int]] = {"up": (WIDTH, WIDTH)}
        blocks = []
        for _ in range(self.blocks):
            block = tree(parts)
            if self.experts:
                experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(self.experts))
                block.add_module("experts", experts)
            blocks.append(block)
        model: nn.Module = nn.Sequential(*blocks) if self.sequential else nn.ModuleList(blocks)
        if self.container:
            inner, model = model, nn.Module()
            model.add_module(self.container, inner)
        if self.wrapped:
            model = nn.Sequential(*(model, nn.LayerNorm(WIDTH), nn.Tanh())[: self.wrapped])
        start = "".join(f"{part}." for part in ("0" if self.wrapped else "", self.container) if part)
        ends = ["up", *(f"experts.{i}" for i in range(self.experts))]
        return model, {f"{start}{i}.{end}": i for i in range(self.blocks) for end in ends}


@st.composite
def selections_by_layer(draw: st.DrawFn, variant: str) -> ByLayer:
    """Shrinks towards one block in a ModuleList at the root."""
    blocks = draw(st.sampled_from((1, 2, 3, 4, 11)))
    return ByLayer(
        variant,
        blocks=blocks,
        container=draw(st.sampled_from(("", "layers", "h", "blocks"))),
        sequential=blocks > 1 and draw(st.booleans()),  # a Sequential of one block is a pipeline of one part
        experts=draw(st.sampled_from((0, 2))),
        wrapped=draw(st.sampled_from((0, 1, 3))),
        layers=tuple(
            draw(st.lists(st.integers(0, blocks - (1 if draw(st.booleans()) else 0)), min_size=1, max_size=3))
        ),
    )
