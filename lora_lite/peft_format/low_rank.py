"""peft's LORA: lora, dora and pissa, and whatever of ours adds a low-rank update."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lora_lite.config import AdapterConfig, is_number
from lora_lite.errors import CheckpointError
from lora_lite.linear import LinearShape, at_least_float32, is_turned, linear_shape, read_weight
from lora_lite.peft_format.method import Layers, Method, Shapes, Written
from lora_lite.peft_format.patterns import exactly
from lora_lite.peft_format.settings import Settings
from lora_lite.spec import Variant
from lora_lite.variants import EVA, DeLoRA, DoRA, DoRAConfig, LoRA, LoRAConfig, PiSSA, PiSSAConfig
from lora_lite.variants.delora import direction

A, B, MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"


class LowRank(Method):
    """LORA without use_dora."""

    peft_type = "LORA"
    reads: ClassVar[set[str]] = {
        *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "init_lora_weights"),
        # Of inits, of engines, or without effect where what they belong to is off.
        *("loftq_config", "eva_config", "lora_ga_config", "corda_config", "runtime_config", "megatron_core"),
        *("fan_in_fan_out", "qalora_group_size", "ensure_weight_tying"),
    }
    suffixes: tuple[str, ...] = (A, B)
    # Any other has peft write into the base when it loads the file; of pissa's the same can be computed.
    INITS: ClassVar[tuple[Any, ...]] = (True, False, None, "gaussian", "eva", "orthogonal", "pissa")

    def __init__(self, settings: Settings, layers: int) -> None:
        super().__init__(settings, layers)
        init = settings.get("init_lora_weights", True)
        if not isinstance(init, bool | str | None) or init not in self.INITS:
            raise settings.damaged(
                "init_lora_weights",
                "one that leaves the base as it is: convert it with peft's"
                " path_initial_model_for_weight_conversion",
            )
        self._pissa = init == "pissa"
        self._alphas = self.valued("alpha_pattern")

    def _alpha(self, name: str | None = None) -> float:
        own = self.settings.get("lora_alpha", 8)
        value: Any = own if name is None else self._alphas.get(name, own)
        if not is_number(value):
            raise CheckpointError(f"{self.settings.path}: found the alpha {value!r}, wanted a finite number.")
        # peft's rsLoRA scales by alpha / √r, and everything here by alpha / r.
        return float(value * math.sqrt(self.rank(name))) if self.settings.get("use_rslora") else float(value)

    def config(self, name: str, **common: Any) -> AdapterConfig:
        kind = PiSSAConfig if self._pissa else LoRAConfig
        return kind(r=self.rank(name), alpha=self._alpha(name), **common)

    def whole(self, config: AdapterConfig) -> AdapterConfig:
        return replace(config, r=self.rank(), alpha=self._alpha())

    def shapes(self, name: str, shape: LinearShape) -> Shapes:
        return {A: (self.rank(name), shape.d_in), B: (shape.d_out, self.rank(name))}

    def ours(self, tensors: Mapping[str, Tensor], layer: nn.Module, config: Any) -> dict[str, Tensor]:
        own = {"A": tensors[A], "B": tensors[B]}
        if self._pissa:
            # peft takes the principal part out of the base again, and so the adapter subtracts it.
            fresh = PiSSA(linear_shape(layer), config)
            fresh.reset(layer)
            own |= {"A0": fresh.A0, "B0": fresh.B0}
        return own

    @classmethod
    def takes(cls, module: Variant) -> bool:
        return type(module) in FACTORS

    @classmethod
    def written(cls, layers: Layers) -> Written:
        factors = {name: factors_of(module) for name, (_, module) in layers.items()}
        ranks = {name: own.r for name, own in factors.items()}
        alphas = {name: own.alpha for name, own in factors.items()}
        (r, _), (alpha, _) = (Counter(own.values()).most_common(1)[0] for own in (ranks, alphas))
        settings = {
            "r": r,
            "lora_alpha": _plain(alpha),
            "rank_pattern": {exactly(name): own for name, own in ranks.items() if own != r},
            "alpha_pattern": {exactly(name): _plain(own) for name, own in alphas.items() if own != alpha},
            "use_rslora": False,
            "use_dora": False,
            "lora_dropout": 0.0,
            "lora_bias": False,
            "bias": "none",
            "fan_in_fan_out": any(is_turned(layer) for layer, _ in layers.values()),
            "init_lora_weights": True,
        }
        tensors = {f"{name}.{A}": own.A for name, own in factors.items()}
        return settings, tensors | {f"{name}.{B}": own.B for name, own in factors.items()}


class DoRALike(LowRank):
    """LORA with use_dora."""

    suffixes = (A, B, MAGNITUDE)

    def config(self, name: str, **common: Any) -> AdapterConfig:
        if self._pissa:
            raise self.settings.damaged("init_lora_weights", "another with use_dora")
        return DoRAConfig(r=self.rank(name), alpha=self._alpha(name), **common)

    def shapes(self, name: str, shape: LinearShape) -> Shapes:
        return {**super().shapes(name, shape), MAGNITUDE: (shape.d_out,)}

    def ours(self, tensors: Mapping[str, Tensor], layer: nn.Module, config: Any) -> dict[str, Tensor]:
        return {**super().ours(tensors, layer, config), "m": tensors[MAGNITUDE]}

    @classmethod
    def takes(cls, module: Variant) -> bool:
        return type(module) is DoRA

    @classmethod
    @torch.no_grad()
    def written(cls, layers: Layers) -> Written:
        settings, tensors = super().written(layers)
        for name, (layer, module) in layers.items():
            own: Any = module
            turned = read_weight(layer).double() + own.scale * own.B.double() @ own.A.double()
            if not turned.any(dim=1).all():
                raise CheckpointError(
                    f"{name}: a row of W + s B A is zero: it counts as of length 1 here, and gives NaN in"
                    " peft. Leave the layer out with exclude_names."
                )
            tensors[f"{name}.{MAGNITUDE}"] = own.m
        return {**settings, "use_dora": True}, tensors


@dataclass(frozen=True)
class Factors:
    """alpha / r · B A, the update of one layer: A (r, d_in), B (d_out, r)."""

    A: Tensor
    B: Tensor
    alpha: float

    @property
    def r(self) -> int:
        return len(self.A)


@torch.no_grad()
def factors_of(module: Variant) -> Factors:
    """The update of a module that adds one."""
    return FACTORS[type(module)](module)


def _of_lora(own: Any) -> Factors:
    return Factors(own.A, own.B, own.config.alpha)


def _of_pissa(own: Any) -> Factors:
    """s (B A − B₀ A₀), in one product of twice the rank."""
    down, up = torch.cat([own.A, own.A0]), torch.cat([own.B, -own.B0], dim=1)
    return Factors(down, up, 2 * own.config.alpha)


def _of_delora(own: Any) -> Factors:
    """λ/r B diag(c) A diag(w) less the same with λ₀, A₀ and B₀: of twice the rank, at a scale of 1."""
    wide = torch.float64
    down, up = torch.cat([own.A, own.A0]).to(wide), torch.cat([own.B, own.B0], dim=1).to(wide)
    r = own.config.r
    strength = torch.cat([own.lambda_.expand(r), -own.lambda0.expand(r)]).to(wide) / r
    (down, lengths), (up, widths) = direction(down, 1, 0.0), direction(up, 0, 0.0)
    kept = at_least_float32(own.A.dtype)
    return Factors(
        (down * own.w.to(wide)).to(kept), (up * (strength / (lengths * widths))).to(kept), float(2 * r)
    )


# By the class itself: a subclass may compute something else.
FACTORS: dict[type[Variant], Callable[[Any], Factors]] = {
    LoRA: _of_lora,
    EVA: _of_lora,
    DoRA: _of_lora,
    PiSSA: _of_pissa,
    DeLoRA: _of_delora,
}


def _plain(alpha: float) -> float:
    """Who reads such files elsewhere expects a whole number where it is one."""
    if not is_number(alpha):
        raise CheckpointError(f"found twice an alpha beyond a float's range, {alpha}: choose a smaller one.")
    return int(alpha) if alpha == int(alpha) else alpha
