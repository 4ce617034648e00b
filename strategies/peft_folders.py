"""Recipes of what people have in a peft folder: a method, its settings, and how they name layers."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from torch import nn

from strategies.layers import SEEDS
from strategies.models import NestedRecipe, nested_recipes

# Each with the config class of peft's that it is of, and what is fixed there.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("LoraConfig", {}),
    "dora": ("LoraConfig", {"use_dora": True}),
    "pissa": ("LoraConfig", {"init_lora_weights": "pissa"}),
    "ia3": ("IA3Config", {}),
    "hra": ("HRAConfig", {}),
    "delora": ("DeloraConfig", {}),
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
# Of layers, by pattern.
PATTERNS: dict[str, tuple[tuple[tuple[str, Any], ...], ...]] = {
    "rank_pattern": ((), (("down", 1),), ((r"\d+\.down", 4),), (("^{0}.0.down", 1), ("down", 2))),
    "alpha_pattern": ((), (("up", 5),), ((r"{0}\.0\.(up|down)", 7),)),
}


@dataclass(frozen=True)
class PeftFolder:
    """A folder of peft's method, as plain settings of its config class, for a model with trained tensors."""

    method: str
    settings: tuple[tuple[str, Any], ...]
    model: NestedRecipe
    seed: int = 0

    @property
    def config_class(self) -> str:
        return METHODS[self.method][0]

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
        return METHODS[self.method][0]

    def keywords(self) -> dict[str, Any]:
        """Keyword arguments of the config class."""
        targets = ["query", "value", "output.dense"] if self.model == "MiniLM" else ["q_proj", "down_proj"]
        settings = {**METHODS[self.method][1], "target_modules": targets}
        if self.method == "ia3":
            return {**settings, "feedforward_modules": targets[-1:]}
        return {**settings, "r": 4}


def _filled(value: Any, container: str) -> Any:
    if isinstance(value, str):
        return value.replace("{0}", container)
    if isinstance(value, tuple):
        return [_filled(entry, container) for entry in value]
    return value


@st.composite
def peft_folders(draw: st.DrawFn, method: str) -> PeftFolder:
    """Shrinks towards rank 2 on the two layers of one narrow block."""
    # IA3 has no choice by index.
    namings = [naming for naming in NAMINGS if method != "ia3" or "layers_to_transform" not in naming]
    naming = draw(st.sampled_from(namings))
    settings = {**METHODS[method][1], **naming}
    if method == "ia3":
        settings["feedforward_modules"] = _on_inputs(draw, settings["target_modules"])
    else:
        # A principal part is no wider than the layer.
        settings["r"] = draw(st.sampled_from((2,) if method == "pissa" else (2, 4)))
    if method in ("lora", "dora", "pissa"):
        settings["lora_alpha"] = draw(st.sampled_from((3, 16, 0.5)))
        settings["use_rslora"] = draw(st.booleans())
        settings["alpha_pattern"] = draw(st.sampled_from(PATTERNS["alpha_pattern"]))
    if method in ("lora", "dora", "delora"):
        settings["rank_pattern"] = draw(st.sampled_from(PATTERNS["rank_pattern"]))
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
