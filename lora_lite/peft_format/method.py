"""What each of peft's methods is, to read it and to write it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from lora_lite.config import LARGEST_RANK, AdapterConfig
from lora_lite.errors import CheckpointError
from lora_lite.linear import LinearShape
from lora_lite.peft_format.patterns import Valued
from lora_lite.peft_format.settings import Settings
from lora_lite.spec import Variant

Shapes = dict[str, tuple[int, ...]]
# Adapted layers with their adapter modules, by name.
Layers = Mapping[str, tuple[nn.Module, Variant]]
# Settings, those that choose layers aside, and tensors by layer and suffix.
Written = tuple[dict[str, Any], dict[str, Tensor]]


class Method(ABC):
    """One of peft's methods, as a folder with tensors for at most so many layers has it.

    peft_type  its name there
    reads      the settings that it looks at, besides those that choose layers
    suffixes   of the names of a layer's tensors, all of which a layer must have
    """

    peft_type: ClassVar[str]
    reads: ClassVar[set[str]] = set()
    suffixes: tuple[str, ...]

    def __init__(self, settings: Settings, layers: int) -> None:
        self.settings = settings
        self._layers = layers
        self._ranks = self.valued("rank_pattern")

    def valued(self, name: str) -> Valued:
        """A setting by layer."""
        return Valued(self.settings.get(name), f"{self.settings.path}: {name}", self._layers)

    def rank(self, name: str | None = None) -> int:
        """Of this layer, or of the config."""
        own = self.settings.get("r", 8)
        value = own if name is None else self._ranks.get(name, own)
        if type(value) is not int or not 1 <= value <= LARGEST_RANK:
            raise CheckpointError(
                f"{self.settings.path}: found the rank {value!r}, wanted a whole number from 1 to"
                f" {LARGEST_RANK}."
            )
        return value

    @abstractmethod
    def config(self, name: str, **common: Any) -> AdapterConfig:
        """Of this layer. common: dtype and targets."""

    def whole(self, config: AdapterConfig) -> AdapterConfig:
        """Of the whole adapter, given that of one of its layers."""
        return config

    @abstractmethod
    def shapes(self, name: str, shape: LinearShape) -> Shapes:
        """Of a layer's tensors, by suffix."""

    @abstractmethod
    def ours(self, tensors: Mapping[str, Tensor], layer: nn.Module, config: Any) -> dict[str, Tensor]:
        """A layer's tensors by our names, given those of the file by suffix."""

    @classmethod
    @abstractmethod
    def takes(cls, module: Variant) -> bool:
        """Whether such an adapter of ours is written as this method."""

    @classmethod
    @abstractmethod
    def written(cls, layers: Layers) -> Written:
        """What a folder has of these layers. Raises CheckpointError where it cannot."""
