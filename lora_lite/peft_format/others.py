"""peft's HRA, IA3 and DELORA."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from lora_lite.config import AdapterConfig
from lora_lite.errors import CheckpointError
from lora_lite.linear import LinearShape, at_least_float32, is_turned
from lora_lite.peft_format.method import Layers, Method, Shapes, Written
from lora_lite.peft_format.patterns import exactly, only, whole
from lora_lite.peft_format.settings import Settings
from lora_lite.spec import Variant
from lora_lite.variants import HRA, IA3, IA3FF, DeLoRA, DeLoRAConfig, HRAConfig, IA3Config, IA3FFConfig


def refuse_turned(method: str, layers: Layers) -> None:
    """Raise CheckpointError on a layer of which only some of peft's methods know the layout."""
    for name, (layer, _) in layers.items():
        if is_turned(layer):
            raise CheckpointError(
                f"{name}: peft's {method} is for nn.Linear alone, found {type(layer).__name__}."
            )


class HRALike(Method):
    """hra: reflections are columns in a file, and rows here."""

    peft_type = "HRA"
    reads: ClassVar[set[str]] = {"r", "init_weights"}
    suffixes = ("hra_u",)

    def config(self, name: str, **common: Any) -> AdapterConfig:
        return HRAConfig(r=self.rank(name), **common)

    def shapes(self, name: str, shape: LinearShape) -> Shapes:
        return {"hra_u": (shape.d_in, self.rank(name))}

    def ours(self, tensors: Mapping[str, Tensor], layer: nn.Module, config: Any) -> dict[str, Tensor]:
        return {"U": tensors["hra_u"].mT}

    @classmethod
    def takes(cls, module: Variant) -> bool:
        return type(module) is HRA

    @classmethod
    def written(cls, layers: Layers) -> Written:
        refuse_turned(cls.peft_type, layers)
        ranks = {name: module.config.r for name, (_, module) in layers.items()}
        if len(set(ranks.values())) > 1:
            raise CheckpointError(
                f"peft's HRA has one rank for all layers, found {ranks}. Export them apart."
            )
        tensors = {}
        for name, (_, module) in layers.items():
            U: Any = module.U
            if not U.any(dim=1).all():
                raise CheckpointError(
                    f"{name}: a row of U is zero, which reflects nothing here and gives NaN in peft. Train"
                    " it, or leave the layer out with exclude_names."
                )
            tensors[f"{name}.hra_u"] = U.detach().mT
        return {
            "r": next(iter(ranks.values())),
            "apply_GS": False,
            "init_weights": True,
            "bias": "none",
        }, tensors


def _ends_with(ends: tuple[str, ...], name: str) -> bool:
    return name.endswith(ends)


class IA3Like(Method):
    """ia3, and ia3_ff for feedforward_modules: a file holds the gate, and a module here the gate less 1."""

    peft_type = "IA3"
    reads: ClassVar[set[str]] = {"feedforward_modules", "fan_in_fan_out", "init_ia3_weights"}
    suffixes = ("ia3_l",)

    def __init__(self, settings: Settings, layers: int) -> None:
        super().__init__(settings, layers)
        held = settings.get("feedforward_modules") or []
        if isinstance(held, str):
            self._on_inputs = whole(held, f"{settings.path}: feedforward_modules")
        elif isinstance(held, list) and all(isinstance(entry, str) for entry in held):
            # Any end of a name, also inside of a part of it: so does peft.
            self._on_inputs = partial(_ends_with, tuple(held))
        else:
            raise settings.damaged("feedforward_modules", "names or one regular expression")

    def config(self, name: str, **common: Any) -> AdapterConfig:
        return (IA3FFConfig if self._on_inputs(name) else IA3Config)(**common)

    def shapes(self, name: str, shape: LinearShape) -> Shapes:
        return {"ia3_l": (1, shape.d_in) if self._on_inputs(name) else (shape.d_out, 1)}

    def ours(self, tensors: Mapping[str, Tensor], layer: nn.Module, config: Any) -> dict[str, Tensor]:
        return {"offset": tensors["ia3_l"].flatten().double() - 1}

    @classmethod
    def takes(cls, module: Variant) -> bool:
        return type(module) in (IA3, IA3FF)

    @classmethod
    def written(cls, layers: Layers) -> Written:
        tensors = {}
        on_inputs = [name for name, (_, module) in layers.items() if type(module) is IA3FF]
        for name, (_, module) in layers.items():
            offset: Any = module.offset
            # Half precision would swallow the offset.
            gate = (1 + offset.detach().double()).to(at_least_float32(offset.dtype))
            tensors[f"{name}.ia3_l"] = gate[None] if name in on_inputs else gate[:, None]
        others = layers.keys() - set(on_inputs)
        told = any(name.endswith(tuple(on_inputs)) for name in others)
        settings = {"feedforward_modules": only(on_inputs) if told else on_inputs, "init_ia3_weights": True}
        return {**settings, "fan_in_fan_out": any(is_turned(layer) for layer, _ in layers.values())}, tensors


class DeLoRALike(Method):
    """delora with init="zero_b", which has no adapter of the start to subtract."""

    peft_type = "DELORA"
    reads: ClassVar[set[str]] = {"r", "delora_lambda", "rank_pattern", "lambda_pattern", "init_weights"}
    suffixes = ("delora_A", "delora_B", "delora_lambda", "delora_w_norm")
    OURS = ("A", "B", "lambda_", "w")

    def config(self, name: str, **common: Any) -> AdapterConfig:
        # What λ has come to is a tensor; the setting is where it began.
        strength = self.settings.number("delora_lambda", 15)
        return DeLoRAConfig(r=self.rank(name), lambda_init=strength, init="zero_b", **common)

    def whole(self, config: AdapterConfig) -> AdapterConfig:
        return replace(config, r=self.rank())

    def shapes(self, name: str, shape: LinearShape) -> Shapes:
        r = self.rank(name)
        shapes = ((r, shape.d_in), (shape.d_out, r), (1,), (shape.d_in,))
        return dict(zip(self.suffixes, shapes, strict=True))

    def ours(self, tensors: Mapping[str, Tensor], layer: nn.Module, config: Any) -> dict[str, Tensor]:
        return dict(zip(self.OURS, (tensors[suffix] for suffix in self.suffixes), strict=True))

    @classmethod
    def takes(cls, module: Variant) -> bool:
        return type(module) is DeLoRA and module.config.init == "zero_b"

    @classmethod
    def written(cls, layers: Layers) -> Written:
        refuse_turned(cls.peft_type, layers)
        tensors: dict[str, Tensor] = {}
        ranks = {name: module.config.r for name, (_, module) in layers.items()}
        starts = {name: module.config.lambda_init for name, (_, module) in layers.items()}
        (r, _), (start, _) = (Counter(own.values()).most_common(1)[0] for own in (ranks, starts))
        for name, (_, module) in layers.items():
            for suffix, own in zip(cls.suffixes, cls.OURS, strict=True):
                tensors[f"{name}.{suffix}"] = getattr(module, own)
        settings = {
            "r": r,
            "delora_lambda": start,
            "rank_pattern": {exactly(name): own for name, own in ranks.items() if own != r},
            "lambda_pattern": {exactly(name): own for name, own in starts.items() if own != start},
            "module_dropout": 0.0,
            "bias": "none",
            "init_weights": True,
        }
        return settings, tensors
