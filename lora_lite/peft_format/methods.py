"""peft's methods and ours: the same function in either's settings and tensors."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from lora_lite.config import LARGEST_RANK, AdapterConfig
from lora_lite.errors import CheckpointError
from lora_lite.linear import LinearShape
from lora_lite.peft_format.patterns import Valued
from lora_lite.peft_format.settings import Settings
from lora_lite.variants import DoRAConfig, LoRAConfig

Shapes = dict[str, tuple[int, ...]]


class Method(ABC):
    """What one of peft's methods keeps for a layer, for a file of so many layers.

    reads     the settings that it looks at, besides those that choose layers
    suffixes  of the names of a layer's tensors, all of which a layer must have
    """

    reads: ClassVar[set[str]] = set()
    suffixes: tuple[str, ...]

    def __init__(self, settings: Settings, layers: int) -> None:
        self.settings = settings

    @abstractmethod
    def config(self, name: str, targets: tuple[str, ...], dtype: torch.dtype) -> AdapterConfig:
        """The config of the layer."""

    @abstractmethod
    def shapes(self, name: str, shape: LinearShape) -> Shapes:
        """Of its tensors, by suffix."""

    @abstractmethod
    def ours(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its tensors by our names, given peft's by suffix in float64 or as they are."""


def rank(value: object, settings: Settings) -> int:
    if type(value) is not int or not 1 <= value <= LARGEST_RANK:
        raise CheckpointError(f"{settings.path}: found the rank {value!r}, wanted 1 to {LARGEST_RANK}.")
    return value


class LowRank(Method):
    """LORA: lora, or dora where use_dora is on."""

    reads: ClassVar[set[str]] = {
        "r",
        "lora_alpha",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "use_dora",
        "init_lora_weights",
        "fan_in_fan_out",
        "megatron_core",
        "qalora_group_size",
        "loftq_config",
        "eva_config",
        "lora_ga_config",
        "corda_config",
        "runtime_config",
        "ensure_weight_tying",
    }
    # Any other writes the base anew when peft loads it.
    INITS = (True, False, "gaussian", "eva", "orthogonal")

    def __init__(self, settings: Settings, layers: int) -> None:
        super().__init__(settings, layers)
        if settings.get("init_lora_weights", True) not in self.INITS:
            raise settings.damaged("init_lora_weights", "one that leaves the base as it is")
        self.dora = bool(settings.get("use_dora"))
        self.suffixes = ("lora_A.weight", "lora_B.weight", *(("lora_magnitude_vector",) if self.dora else ()))
        self._ranks = Valued(settings.get("rank_pattern"), f"{settings.path}: rank_pattern", layers)
        self._alphas = Valued(settings.get("alpha_pattern"), f"{settings.path}: alpha_pattern", layers)

    def config(self, name: str, targets: tuple[str, ...], dtype: torch.dtype) -> AdapterConfig:
        r = self._rank(name)
        alpha: Any = self._alphas.get(name, self.settings.get("lora_alpha", 8))
        if self.settings.get("use_rslora"):
            # peft scales by alpha / √r, and we by alpha / r.
            alpha = alpha * math.sqrt(r)
        kind = DoRAConfig if self.dora else LoRAConfig
        return kind(r=r, alpha=alpha, target_names=targets, dtype=dtype)

    def _rank(self, name: str) -> int:
        return rank(self._ranks.get(name, self.settings.get("r", 8)), self.settings)

    def shapes(self, name: str, shape: LinearShape) -> Shapes:
        r = self._rank(name)
        return dict(zip(self.suffixes, ((r, shape.d_in), (shape.d_out, r), (shape.d_out,)), strict=False))

    def ours(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(zip(("A", "B", "m"), (tensors[suffix] for suffix in self.suffixes), strict=False))


METHODS: dict[str, type[Method]] = {"LORA": LowRank}


def method_of(settings: Settings) -> type[Method]:
    kind = settings.get("peft_type")
    if not isinstance(kind, str) or kind not in METHODS:
        raise settings.damaged("peft_type", f"one of {', '.join(METHODS)}")
    settings.refuse_unread(METHODS[kind].reads)
    return METHODS[kind]
