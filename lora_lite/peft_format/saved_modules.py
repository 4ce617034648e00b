"""modules_to_save: layers that train whole beside an adapter of peft's, which are `full` ones here."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from lora_lite.errors import CheckpointError
from lora_lite.linear import is_linear, linear_shape, turned
from lora_lite.peft_format.patterns import compiled
from lora_lite.peft_format.settings import Settings
from lora_lite.spec import Variant

WEIGHT, BIAS = "weight", "bias"


class SavedModules:
    """What modules_to_save means in a model of so many modules: modules by any end of their names."""

    def __init__(self, settings: Settings, modules: int) -> None:
        held = settings.get("modules_to_save") or []
        if not isinstance(held, list) or not all(isinstance(entry, str) and entry for entry in held):
            raise settings.damaged("modules_to_save", "names")
        if len(held) > 64 + modules:
            raise CheckpointError(
                f"{settings.path}: modules_to_save: found {len(held)} names for {modules} modules, wanted"
                " fewer."
            )
        self._path, self._entries = settings.path, tuple(held)
        what = f"{settings.path}: modules_to_save"
        self._excluded = [compiled(_excluding(entry), what) for entry in self._entries]

    def __contains__(self, name: str) -> bool:
        """Whether peft puts no adapter on a layer of this name: it, or what it is in, looks like one that is
        saved whole. It need not be one.
        """
        return any(pattern.match(name) for pattern in self._excluded)

    def layers(self, modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
        """The layers that are saved whole. Raises CheckpointError where one of them is not linear."""
        if not self._entries:
            return {}
        # Any end, also inside of a part of a name: so does peft.
        outer = [name for name in modules if name.endswith(self._entries)]
        if not outer:
            raise CheckpointError(
                f"{self._path}: modules_to_save names {', '.join(self._entries[:5])}, of which this model has"
                " none."
            )
        inside = {
            name: module
            for name, module in modules.items()
            if any(name == saved or name.startswith(f"{saved}.") for saved in outer)
        }
        for name, module in inside.items():
            if module._parameters and not is_linear(module):
                raise CheckpointError(
                    f"{self._path}: modules_to_save means {name}, a {type(module).__name__}, wanted linear"
                    " layers: those alone train whole here."
                )
        return {name: module for name, module in inside.items() if is_linear(module)}


def shapes_of(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of what a file has of a layer that is saved whole, as the layer stores it."""
    shape: Any = linear_shape(layer)
    weight: Any = layer.weight
    return {WEIGHT: tuple(weight.shape)} | ({BIAS: (shape.d_out,)} if shape.bias else {})


def ours(tensors: Mapping[str, Tensor], layer: nn.Module) -> dict[str, Tensor]:
    """The tensors of a `full` adapter, given those of a file."""
    return {"W": turned(layer, tensors[WEIGHT])} | ({"b": tensors[BIAS]} if BIAS in tensors else {})


def _excluding(name: str) -> str:
    """What peft takes an adapted layer's name for excluded by: there this is no name, but a pattern."""
    return rf"(?:^|.*\.){name}(?:$|\..*)"


def written(
    layers: Mapping[str, tuple[nn.Module, Variant]], names: Iterable[str], adapted: Iterable[str]
) -> dict[str, Tensor]:
    """What a file has of these layers, by layer and suffix. names: of all modules of the model; adapted: of
    the layers that have another adapter.

    Raises CheckpointError where peft would take another module for one of them.
    """
    tensors: dict[str, Tensor] = {}
    for name, (layer, module) in layers.items():
        if others := [other for other in names if other != name and other.endswith(name)]:
            raise CheckpointError(
                f"{name}: {others[0]} ends in the same way, wanted a name of its own: peft's modules_to_save"
                " would train both."
            )
        excluded = compiled(_excluding(name), f"{name}: its name in modules_to_save")
        if others := [other for other in adapted if excluded.match(other)]:
            raise CheckpointError(
                f"{name}: {others[0]} looks like it as a regular expression, which peft takes modules_to_save"
                " for, wanted names that differ: peft would leave the adapter out there."
            )
        own: Any = module
        tensors[f"{name}.{WEIGHT}"] = turned(layer, own.W.detach())
        if own.shape.bias:
            tensors[f"{name}.{BIAS}"] = own.b
    return tensors
