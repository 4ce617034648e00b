"""Recipes of what people have in a peft folder: a method, its settings, and how they name layers."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from torch import nn

from strategies.layers import SEEDS
from strategies.models import NestedRecipe, nested_recipes

# Of layers, by pattern.
PATTERNS: dict[str, tuple[tuple[tuple[str, Any], ...], ...]] = {
    "rank_pattern": ((), (("down", 1),), ((r"\d+\.down", 4),), (("^{0}.0.down", 1), ("down", 2))),
    "alpha_pattern": ((), (("up", 5),), ((r"{0}\.0\.(up|down)", 7),)),
}
# What is drawn of a setting, those that name layers aside. A principal part is no wider than the layer.
RANKS, NARROW = {"r": (2, 4)}, {"r": (2,)}
SCALES = {"lora_alpha": (3, 16, 0.5), "use_rslora": (False, True), "alpha_pattern": PATTERNS["alpha_pattern"]}
BY_LAYER = {"rank_pattern": PATTERNS["rank_pattern"]}


@dataclass(frozen=True)
class PeftMethod:
    """The config class of peft's that it is of, what is fixed there, and what is drawn.

    by_index     whether layers can be named by it
    on_inputs    whether the config says which layers are adapted at their input, feedforward_modules
    """

    config_class: str
    fixed: dict[str, Any]
    drawn: dict[str, tuple[Any, ...]]
    by_index: bool = True
    on_inputs: bool = False


METHODS: dict[str, PeftMethod] = {
    "lora": PeftMethod("LoraConfig", {}, RANKS | SCALES | BY_LAYER),
    "dora": PeftMethod("LoraConfig", {"use_dora": True}, RANKS | SCALES | BY_LAYER),
    "pissa": PeftMethod("LoraConfig", {"init_lora_weights": "pissa"}, NARROW | SCALES),
    "ia3": PeftMethod("IA3Config", {}, {}, by_index=False, on_inputs=True),
    "hra": PeftMethod("HRAConfig", {}, RANKS),
    "delora": PeftMethod("DeloraConfig", {}, RANKS | BY_LAYER),
}
# How layers are named: whole ends of names, one pattern for whole names, or by index, {0} the container.
NAMINGS: tuple[dict[str, Any], ...] = (
    {"target_modules": ("up", "down")},
    {"target_modules": ("down", "readout")},
    {"target_modules": r"{0}\.\d+\.(up|down)"},
    {"target_modules": ("up", "down"), "exclude_modules": ("0.up",)},
    {"target_modules": ("up", "readout"), "exclude_modules": r".*\.0\.up"},
    {"target_modules": ("up", "down"), "layers_to_transform": (0,), "layers_pattern": "{0}"},
)


@dataclass(frozen=True)
class PeftFolder:
    """A folder of peft's method, as plain settings of its config class, for a model with trained tensors."""

    method: str
    settings: tuple[tuple[str, Any], ...]
    model: NestedRecipe
    seed: int = 0

    @property
    def config_class(self) -> str:
        return METHODS[self.method].config_class

    def keywords(self) -> dict[str, Any]:
        """Keyword arguments of the config class, names of layers filled in."""
        given = {name: _filled(value, self.model.container) for name, value in self.settings}
        return {name: dict(value) if name in PATTERNS else value for name, value in given.items()}

    def build(self) -> nn.Module:
        """The base."""
        return self.model.build()


@dataclass(frozen=True)
class EncoderFolder:
    """A folder of peft's method on a real model, with few settings. model: its name."""

    method: str
    model: str
    seed: int = 0

    @property
    def config_class(self) -> str:
        return METHODS[self.method].config_class

    def keywords(self) -> dict[str, Any]:
        """Keyword arguments of the config class."""
        targets = ["query", "value", "output.dense"] if self.model == "MiniLM" else ["q_proj", "down_proj"]
        method = METHODS[self.method]
        inputs = {"feedforward_modules": targets[-1:]} if method.on_inputs else {}
        rank = {"r": 4} if "r" in method.drawn else {}
        return {**method.fixed, "target_modules": targets, **inputs, **rank}


def _filled(value: Any, container: str) -> Any:
    if isinstance(value, str):
        return value.replace("{0}", container)
    if isinstance(value, tuple):
        return [_filled(entry, container) for entry in value]
    return value


@st.composite
def peft_folders(draw: st.DrawFn, method: str) -> PeftFolder:
    """Shrinks towards rank 2 on the two layers of one narrow block."""
    own = METHODS[method]
    namings = [naming for naming in NAMINGS if own.by_index or "layers_to_transform" not in naming]
    settings = {**own.fixed, **draw(st.sampled_from(namings))}
    if own.on_inputs:
        settings["feedforward_modules"] = _on_inputs(draw, settings["target_modules"])
    settings |= {name: draw(st.sampled_from(values)) for name, values in own.drawn.items()}
    rank = (("r", settings["r"]),) if "r" in settings else ()
    return PeftFolder(
        method=method,
        settings=tuple(settings.items()),
        model=draw(nested_recipes(method, rank, dtypes=("float32",), weights=("gaussian",), turns=(False,))),
        seed=draw(SEEDS),
    )


def _on_inputs(draw: st.DrawFn, targets: tuple[str, ...] | str) -> tuple[str, ...] | str:
    """Of a list some, as peft asks for; with a pattern, another pattern."""
    if isinstance(targets, str):
        return draw(st.sampled_from((r".*\.down", r".*\.(up|down)", "")))
    return draw(st.sampled_from(((), targets[:1], targets[1:])))
