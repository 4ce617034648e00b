"""LyCORIS as a subject: every algorithm of its table, settings from the signature of each."""

import inspect
import logging
from collections.abc import Mapping
from dataclasses import field, make_dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from properties.subjects.introspection import families, numbers_of
from properties.subjects.library import Library, LibraryCase, Life, Method

# Of every module: what attaches it, what drops out, and what is about convolutions alone.
COMMON = ("self", "lora_name", "org_module", "multiplier", "kwargs", "use_tucker", "rank_dropout_scale")
FILE = "adapter.safetensors"


class Together(nn.Module):
    """The base and its network, which hangs on the base's forward: one thing to copy, cast and call."""

    def __init__(self, base: nn.Module, network: Any) -> None:
        super().__init__()
        self.base, self.network = base, network

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        return y


class LycorisLife(Life):
    """A network, applied. Its merge on the fly is of a network that is not: the two take turns."""

    model: Any

    def __init__(self, base: nn.Module, network: Any, case: LibraryCase) -> None:
        # Its merges take the multiplier as an argument.
        self.model, self.case, self.factor = Together(base, network), case, 1.0

    def trainable(self) -> dict[str, nn.Parameter]:
        return {
            n: p for n, p in self.model.named_parameters() if n.startswith("network.") and p.requires_grad
        }

    def layer(self, i: int) -> nn.Module:
        return self.model.network.loras[i]  # type: ignore[no-any-return]

    def base(self) -> dict[str, Tensor]:
        return {n: p.detach() for n, p in self.model.base.named_parameters()}

    def merge(self) -> None:
        self.model.network.restore()
        self.model.network.onfly_merge(self.factor)

    def unmerge(self) -> None:
        self.model.network.onfly_restore()
        self.model.network.apply_to()

    def absorb(self) -> nn.Module:
        self.model.network.restore()
        self.model.network.merge_to(self.factor)
        return self.model.base  # type: ignore[no-any-return]

    def detach(self) -> nn.Module:
        self.model.network.restore()
        return self.model.base  # type: ignore[no-any-return]

    def scale(self, factor: float) -> None:
        self.factor = factor
        self.model.network.set_multiplier(factor)

    def save(self, folder: Path) -> None:
        self.model.network.save_weights(str(folder / FILE), None, {})

    def settings(self) -> dict[str, Any]:
        """What its files keep besides tensors: the rank and alpha, where the algorithm has them."""
        layer = self.layer(0)
        # A rotation keeps its constraint under the name of alpha.
        held = {"lora_dim": "lora_dim", "constraint" if hasattr(layer, "constraint") else "alpha": "alpha"}
        given = [name for name, _ in self.case.settings if hasattr(layer, held.get(name, ""))]
        return {name: float(getattr(layer, held[name])) for name in given}


class Lycoris(Library):
    """Through LycorisNetwork, apply_to and create_lycoris_from_weights."""

    name = "lycoris"
    package = "lycoris-lora"

    def missing(self) -> str | None:
        wanted = "pip install --no-deps lycoris-lora einops toml"
        return None if find_spec("lycoris") else f"lycoris-lora is not installed: {wanted}"

    @cache  # noqa: B019  # one library a process
    def methods(self) -> Mapping[str, Method]:
        from lycoris.logging import logger
        from lycoris.wrapper import network_module_dict

        logger.setLevel(logging.ERROR)
        offers = frozenset({"merge", "unmerge", "absorb", "detach", "scale", "save", "settings", "steady"})
        found = {}
        for name, kind in network_module_dict.items():
            # The same class under another name.
            if name == "locon":
                continue
            numbers = numbers_of(_config_of(kind))
            for family, made in families(_config_of(kind)).items():
                full = f"{name}+{family}" if family else name
                found[full] = Method(
                    full,
                    made.settings,
                    offers,
                    numbers=numbers,
                    simplest=made.simplest,
                    apart=made.apart,
                )
        return found

    def identity(self, case: LibraryCase) -> bool:
        return True

    def settings(self, life: Life, case: LibraryCase) -> Any:
        from lycoris.wrapper import network_module_dict

        return _config_of(network_module_dict[case.family])(**dict(case.settings))

    def attach(self, model: nn.Module, case: LibraryCase) -> Life:
        from lycoris.wrapper import LycorisNetwork

        model.requires_grad_(False)
        network = LycorisNetwork(model, network_module=case.family, **dict(case.settings))
        network.apply_to()
        network.to(case.dtype)
        return LycorisLife(model, network, case)

    def load(self, model: nn.Module, folder: Path, case: LibraryCase) -> Life:
        from lycoris.wrapper import create_lycoris_from_weights

        model.requires_grad_(False)
        network, _ = create_lycoris_from_weights(1.0, str(folder / FILE), model)
        network.apply_to()
        # It is loaded in float32, and cast by who trains on.
        network.to(case.dtype)
        return LycorisLife(model, network, case)


def _config_of(kind: Any) -> type:
    """A dataclass with the fields that the module's __init__ takes."""
    taken = inspect.signature(kind.__init__).parameters
    own = [(name, given.default) for name, given in taken.items() if name not in COMMON]
    return make_dataclass(kind.__name__, [(name, _hint(d), field(default=d)) for name, d in own])


def _hint(default: Any) -> Any:
    """bypass_mode is None where it is left to the layer: a switch of three positions."""
    return bool | None if default is None else type(default)
