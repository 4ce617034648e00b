"""Recipes of names: of layers that are much alike, and of what a peft config says of them."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from torch import nn

# Of names, which differ in what joins their parts: as a regular expression the dot matches the others.
PARTS, JOINTS, BEFORE = (("a", "b"), ("a", "b", "a"), ("a", "b+")), (".", "_", "-", "b"), ("", "b.", "b_")


@dataclass(frozen=True)
class HeadAmong:
    """Layers by these full names in nested modules, and which of them trains whole."""

    names: tuple[str, ...]
    head: str

    def build(self) -> nn.Module:
        """The base; the layers' numbers are drawn by torch's own generator."""
        model = nn.Module()
        for name in self.names:
            *outer, own = name.split(".")
            inner = model
            for part in outer:
                if not hasattr(inner, part):
                    inner.add_module(part, nn.Module())
                inner = inner.get_submodule(part)
            inner.add_module(own, nn.Linear(3, 3))
        return model


@st.composite
def heads_among(draw: st.DrawFn, method: str) -> HeadAmong:
    """Shrinks towards two layers of short names."""
    parts = draw(st.sampled_from(PARTS))
    joints = st.tuples(*[st.sampled_from(JOINTS)] * (len(parts) - 1), st.just(""))
    joined = joints.map(lambda drawn: "".join(map("".join, zip(parts, drawn, strict=True))))
    names = st.builds("{}{}".format, st.sampled_from(BEFORE), joined)
    drawn = draw(st.lists(names, min_size=2, max_size=4, unique=True))
    # What holds another layer is none; and a pattern for an end of a name would select both.
    near = {n for n in drawn for m in drawn if n != m and (m.startswith(f"{n}.") or m.endswith(f".{n}"))}
    kept = tuple(name for name in drawn if name not in near)
    kept = kept if len(kept) > 1 else ("a_b", "a-b")
    return HeadAmong(kept, draw(st.sampled_from(kept)))


# As front-ends for fine-tuning write them, and plain ones.
FRONT_END = (
    r"(?:.*?(?:vision|image|visual|patch|embed|language|model).*?(?:attn|mlp|ffn|dense).*?"
    r"(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj).*?)|"
    r"(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|k_proj|v_proj|o_proj)))"
)
ONE = (
    r".*language_model.*\.(q|k|v|o)_proj.*",
    r"(?i).*ATTN.*",
    r"(?i).*\.[^A-Z]+_Proj",
    FRONT_END,
    r"(?!.*vision).*\.layers\.\d+\..*(q|v)_proj",
    r".*(?<!vision_attn)\.(q|k)_proj",
    r"(?:[^.]+\.){4}(?:q|k).*|.*(?:gate|up|down)_proj$",
    r"model\.layers\.[01]\..*\.(?P<kind>attn|self_attn)\..*",
)
NAMES = (
    *(f"model.layers.{i}.self_attn.{own}_proj" for i in (0, 1, 12) for own in "qv"),
    *(f"model.language_model.layers.{i}.mlp.{own}_proj" for i in (0, 1) for own in ("gate", "up")),
    *(
        "vision.blocks.1.Attn.qkv",
        "vision.layers.1.vision_attn.q_proj",
        "layers.0.q",
        "layers.1.v",
        "lm_head",
    ),
)
LISTS = (("q_proj", "v"), ("layers.0.q", "v"), ("model.layers.0.self_attn.q_proj", "v_proj", "q"))


@dataclass(frozen=True)
class Naming:
    """What a config of peft's says of layers, as plain settings of LoraConfig."""

    settings: tuple[tuple[str, Any], ...]

    def keywords(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.settings}


@st.composite
def namings(draw: st.DrawFn, method: str) -> Naming:
    """Shrinks towards one list of ends of names."""
    targets = draw(st.sampled_from((*LISTS, *ONE)))
    settings: list[tuple[str, Any]] = [("target_modules", targets)]
    if draw(st.booleans()) and isinstance(targets, tuple):
        settings.append(("layers_to_transform", draw(st.sampled_from(((1,), (0, 12), 0)))))
        settings.append(
            ("layers_pattern", draw(st.sampled_from((None, "layers", ("h", "layers"), "h|layers"))))
        )
    if draw(st.booleans()):
        settings.append(("exclude_modules", draw(st.sampled_from((r".*\.1\..*", ("q_proj",), *ONE)))))
    if draw(st.booleans()):
        heads = (("lm_head",), ("0.self",), ("self.attn",), ("layers.0.q", "mlp"))
        settings.append(("modules_to_save", draw(st.sampled_from(heads))))
    return Naming(tuple(settings))
