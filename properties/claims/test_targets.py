"""Which layers an adapter goes on: exactly those that the config describes, or a refusal that says why."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import Violation, assert_holds, assert_refuses
from properties.judging.claim import claim
from properties.judging.fixed_models import WIDTH, simple_config


def without_data(variant: type[ll.Variant]) -> bool:
    """Targeting is the same for all; these models have no forward through which data could run."""
    return not variant.needs_calibration


def targets(model: nn.Module, config: ll.AdapterConfig | None = None, **common: Any) -> tuple[str, ...]:
    """The layers that attach puts the adapter on. Raises Violation where it refuses."""
    config = ll.LoRAConfig(r=1, **common) if config is None else config
    try:
        return ll.attach(model, config).targets
    except ll.LoraLiteError as error:
        raise Violation(
            f"{config} on {[n for n, _ in model.named_modules()]}: refused with {error}"
        ) from error


def assert_targets(
    model: nn.Module, wanted: Iterable[str], config: ll.AdapterConfig | None = None, **common: Any
) -> None:
    """attach takes the wanted layers, in this order, and no other layer carries anything."""
    got, wanted = targets(model, config, **common), tuple(wanted)
    assert_holds(got == wanted, claim=f"{config or common}: adapted {got}, wanted {wanted}")
    carry = tuple(name for name, module in model.named_modules() if hasattr(module, "lora_lite"))
    assert_holds(carry == wanted, claim=f"{config or common}: {carry} carry an adapter, wanted {wanted}")


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


# By name. A pattern is drawn as the alternatives for each of the last parts of a name, so that the reference
# needs no regular expressions: a name matches where its last parts are among the alternatives.

Pattern = tuple[tuple[str, ...], ...]
LEAVES = ("o_proj", "foo_proj", "q_proj", "proj", "Q_proj", "o_proj2")


def pattern_text(pattern: Pattern) -> str:
    if len(pattern) == 1:
        return "|".join(pattern[0])
    return r"\.".join(
        alternatives[0] if len(alternatives) == 1 else f"({'|'.join(alternatives)})"
        for alternatives in pattern
    )


def fits(pattern: Pattern, name: str) -> bool:
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


@st.composite
def selections_by_name(draw: st.DrawFn, variant: str) -> ByName:
    """Shrinks towards one layer at the root and one pattern."""
    paths = st.sampled_from(
        ("", "layers.0.", "layers.1.", "layers.0.attn.", "layers.10.attn.", "h.1.", "attn.")
    )
    full = st.builds("{}{}".format, paths, st.sampled_from(LEAVES))
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


@claim(selections_by_name, stage="scope", share=0.5, needs=("no data",))
def test_a_pattern_selects_whole_names_and_whole_dotted_ends(case: ByName) -> None:
    """Any of target_names (all layers where there is none), less any of exclude_names; nothing left is
    refused.
    """
    taken = {n for n in case.names if not case.target_names or any(fits(p, n) for p in case.target_names)}
    taken -= {n for n in case.names if any(fits(p, n) for p in case.exclude_names)}
    model = tree(dict.fromkeys(case.names, (WIDTH, WIDTH)))
    config = simple_config(
        case.variant,
        target_names=tuple(map(pattern_text, case.target_names)),
        exclude_names=tuple(map(pattern_text, case.exclude_names)),
    )
    order = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if taken:
        assert_targets(model, [name for name in order if name in taken], config)
    else:
        with assert_refuses(
            ll.TargetError, "No layer fits all of", claim=f"{config} leaves nothing of {case.names}"
        ):
            ll.attach(model, config)


# By role.


@dataclass(frozen=True)
class ByRole:
    """Layers of these shapes in a model whose config says `hidden_size`, or says nothing (None)."""

    variant: str
    shapes: tuple[tuple[int, int], ...]
    hidden_size: int | None
    target_roles: tuple[str, ...]

    def width(self) -> int | None:
        """The residual width; None where two widths tie."""
        if self.hidden_size is not None:
            return self.hidden_size
        touched = {
            width: sum(width in shape for shape in self.shapes) for shape in self.shapes for width in shape
        }
        most = [width for width in touched if touched[width] == max(touched.values())]
        return most[0] if len(most) == 1 else None


def has_role(role: str, shape: tuple[int, int], width: int) -> bool:
    return {"reader": shape[0] == width, "writer": shape[1] == width, "inner": width not in shape}[role]


@st.composite
def selections_by_role(draw: st.DrawFn, variant: str) -> ByRole:
    """Few widths, so that counts come close to each other. Shrinks towards one layer."""
    widths = st.sampled_from((4, 6, 12))
    return ByRole(
        variant,
        tuple(draw(st.lists(st.tuples(widths, widths), min_size=1, max_size=6))),
        draw(st.none() | widths),
        tuple(
            draw(
                st.lists(st.sampled_from(("reader", "writer", "inner")), min_size=1, max_size=3, unique=True)
            )
        ),
    )


@claim(selections_by_role, stage="scope", needs=("no data",))
def test_roles_are_found_from_the_residual_width(case: ByRole) -> None:
    """The config's hidden_size, or what most layers touch, however wide others are; ties and empty roles are
    refused.
    """
    model: Any = tree({f"l{i}": shape for i, shape in enumerate(case.shapes)})
    if case.hidden_size is not None:
        model.config = SimpleNamespace(hidden_size=case.hidden_size)
    config = simple_config(case.variant, target_roles=case.target_roles)
    if (width := case.width()) is None:
        with assert_refuses(
            ll.TargetError, "cannot tell the residual width", claim=f"two widths tie in {case.shapes}"
        ):
            ll.attach(model, config)
        return
    empty = [
        role for role in case.target_roles if not any(has_role(role, shape, width) for shape in case.shapes)
    ]
    if empty:
        with assert_refuses(
            ll.TargetError, f"no layer is '{empty[0]}'", claim=f"no {empty[0]} in {case.shapes} at {width}"
        ):
            ll.attach(model, config)
        return
    wanted = [
        i
        for i, shape in enumerate(case.shapes)
        if any(has_role(role, shape, width) for role in case.target_roles)
    ]
    assert_targets(model, [f"l{i}" for i in wanted], config)


# By layer index.


@dataclass(frozen=True)
class ByLayer:
    """blocks: how many.

    container: where they lie, "" for the model being the container itself. experts: in each block.

    wrapped: the model is the first of so many parts of an outer Sequential, as in sentence-transformers; 0
    for none.
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
                block.add_module(
                    "experts", nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(self.experts))
                )
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


@claim(selections_by_layer, stage="scope", share=0.5, needs=("no data",))
def test_a_layer_index_counts_the_blocks_of_the_model(case: ByLayer) -> None:
    """Not the experts in a block, nor the parts of a pipeline around it; an index that is not there is
    refused by number.
    """
    model, index = case.build()
    config = simple_config(case.variant, layers=case.layers)
    if absent := sorted(set(case.layers) - set(index.values())):
        with assert_refuses(
            ll.TargetError, re.escape(f"no linear layer has index {absent}"), claim=f"layers {case.layers}"
        ):
            ll.attach(model, config)
    else:
        assert_targets(model, [name for name, i in index.items() if i in case.layers], config)


# Single facts.


def decoder(*, tied: bool = False) -> Any:
    """Two blocks, an embedding, and a head that the model tells of."""

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, WIDTH)
            self.layers = nn.ModuleList(tree({"up": (WIDTH, 6), "down": (6, WIDTH)}) for _ in range(2))
            self.lm_head = nn.Linear(WIDTH, 9, bias=False)
            if tied:
                self.lm_head.weight = self.embed.weight

        def get_output_embeddings(self) -> nn.Module:
            return self.lm_head

    return Decoder()


BODY = ("layers.0.up", "layers.0.down", "layers.1.up", "layers.1.down")


@claim(stage="scope")
def test_the_output_head_is_adapted_only_when_named() -> None:
    for tied in (False, True):
        assert_targets(decoder(tied=tied), BODY)
        assert_targets(decoder(tied=tied), BODY[2:], exclude_names="layers.0.*")
        assert_targets(decoder(tied=tied), ["lm_head"], target_names="lm_head")
        assert_targets(decoder(tied=tied), [*BODY, "lm_head"], target_names=".*")


@claim(stage="scope")
def test_selections_by_name_role_and_layer_all_have_to_hold() -> None:
    assert_targets(
        decoder(), ["layers.1.up"], target_names=("up", "down"), target_roles="reader", layers=(1,)
    )
    assert_targets(decoder(), ["layers.0.down"], exclude_names="layers.1.*", target_roles=("writer",))
    assert_targets(decoder(), ["layers.0.up"], target_roles="reader", layers=(0,))
    with assert_refuses(ll.TargetError, "No layer fits all of", claim="up is no writer"):
        ll.attach(decoder(), simple_config("lora", target_names="up", target_roles="writer"))


@claim(stage="scope")
def test_what_matches_nothing_is_refused_by_its_name() -> None:
    for match, common in (
        (r"target_names: 'q_proj' matches no linear layer", {"target_names": ("up", "q_proj")}),
        (r"target_names: 'p' matches no linear layer", {"target_names": ("p", "up")}),
        (r"exclude_names: 'q_proj' matches no linear layer", {"exclude_names": ("up", "q_proj")}),
        (r"target_names: 'layer' matches no linear layer", {"target_names": "layer"}),
        (r"target_names: 'embed' matches no linear layer", {"target_names": "embed"}),
        (r"no linear layer has index \[2, 5\]; the model has \[0, 1\]", {"layers": (5, 0, 2)}),
        (r"No layer fits all of", {"target_names": "up", "exclude_names": "up"}),
    ):
        with assert_refuses(ll.TargetError, match, claim=f"{common}"):
            ll.attach(decoder(), ll.LoRAConfig(r=1, **common))
    with assert_refuses(ll.TargetError, "Tanh has no linear layer", claim="a model without a linear layer"):
        ll.attach(nn.Tanh(), ll.LoRAConfig(r=1))


@claim(stage="scope")
def test_patterns_are_regular_expressions() -> None:
    names = dict.fromkeys(
        ("layers.0.q_proj", "layers.1.q_proj", "layers.1.qxproj", "layers.10.q_proj", "up"), (WIDTH, WIDTH)
    )
    assert_targets(tree(names), ["layers.0.q_proj", "layers.1.q_proj"], target_names=r"layers\.\d\.q_proj")
    assert_targets(tree(names), ["layers.1.q_proj", "layers.1.qxproj"], target_names=r"1\.q.proj")
    assert_targets(tree(names), [n for n in names if n != "up"], target_names=r"layers\..*")
    assert_targets(tree(names), ["layers.1.q_proj", "up"], target_names=[r"layers\.[1-9]\.q_proj", "u."])
    assert_targets(tree(names), ["layers.1.q_proj", "up"], target_names=r"up|1\.q_proj")
    with assert_refuses(ll.TargetError, "'UP' matches no", claim="case counts"):
        ll.attach(tree(names), simple_config("lora", target_names="UP"))
    with assert_refuses(
        ll.ConfigError, r"LoRAConfig.target_names: '\*up' is no regular expression", claim="*up"
    ):
        simple_config("lora", target_names="*up")


@claim(stage="scope")
def test_targets_are_in_the_order_of_the_model() -> None:
    model = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(12))
    assert_targets(model, map(str, range(12)), target_names=[str(i) for i in reversed(range(12))])


@claim(stage="scope")
def test_a_layer_under_two_names_is_adapted_once() -> None:
    for common, wanted in (
        ({}, ["a", "c"]),
        ({"target_names": ("a", "b")}, ["a"]),
        ({"target_names": "b"}, ["a"]),
        ({"exclude_names": "b"}, ["c"]),
    ):
        model: Any = tree(dict.fromkeys(("a", "b", "c"), (WIDTH, WIDTH)))
        model.b = model.a
        assert_targets(model, wanted, **common)
        assert_holds(
            len(model.a._forward_hooks) == ("a" in wanted),
            claim=f"{common}: {len(model.a._forward_hooks)} hooks",
        )


class Packed(nn.Module):
    """Linear by its widths alone."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :1].expand(*x.shape[:-1], self.out_features)


@claim(stage="scope")
def test_whatever_has_in_and_out_features_is_a_linear_layer() -> None:
    assert_targets(nn.Sequential(Packed(4, 6), nn.Tanh(), nn.Linear(6, 2), nn.Bilinear(2, 2, 2)), ["0", "2"])


@claim(stage="scope")
def test_the_out_projection_of_multihead_attention_is_refused() -> None:
    """It is never called, so that an adapter there would do nothing."""
    for name, model in (
        ("out_proj", nn.MultiheadAttention(4, 2)),
        ("0.attn.out_proj", nn.Sequential(nn.Module())),
    ):
        if name != "out_proj":
            model.get_submodule("0").add_module("attn", nn.MultiheadAttention(4, 2))
        for pattern in ((), "out_proj"):
            with assert_refuses(
                ll.TargetError, f"^{re.escape(name)}: nn.MultiheadAttention never calls", claim=f"{pattern}"
            ):
                ll.attach(model, simple_config("lora", target_names=pattern))
    other = nn.ModuleDict({"attn": nn.MultiheadAttention(4, 2), "up": nn.Linear(4, 4)})
    assert_targets(other, ["up"], exclude_names=r"attn\.out_proj")


@claim(stage="scope")
def test_an_out_projection_under_another_name_is_refused() -> None:
    attention = nn.MultiheadAttention(4, 2)
    model = nn.ModuleDict({"proj": attention.out_proj, "attn": attention})
    with assert_refuses(ll.TargetError, "never calls", claim="proj is attn.out_proj"):
        ll.attach(model, ll.LoRAConfig(r=1))


@claim(stage="scope")
def test_a_shared_block_has_the_index_of_each_of_its_names() -> None:
    block = nn.Linear(WIDTH, WIDTH)
    assert_targets(nn.ModuleList([block, block]), ["0"], layers=(1,))


@claim(stage="scope")
def test_rules_of_the_residual_width_in_a_transformers_config() -> None:
    """A multimodal config tells its text part's; else layers count."""
    model: Any = tree({"up": (4, 12), "down": (12, 4), "gate": (12, 12), "more": (12, 12)})
    model.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(hidden_size=4))
    assert_targets(model, ["up"], target_roles="reader")
    model = tree({"a": (4, 4), "b": (4, 12), "c": (12, 6), "d": (12, 6)})
    assert_targets(model, ["c", "d"], target_roles="reader")  # a square layer is one layer, and not two
