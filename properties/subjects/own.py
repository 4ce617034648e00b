"""lora_lite as one library among others, for the claims that judge them all."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.subjects.library import Library, LibraryCase, Life, Method, Settings, Stop, plain
from strategies.layers import calibration_batches
from strategies.options import ALPHAS, build_config, own_options

OFFERED = frozenset({"absorb", "detach", "save", "settings", "steady"})


class OwnLife(Life):
    """A model and the adapter that hangs on its layers."""

    def __init__(self, model: nn.Module, case: LibraryCase) -> None:
        self.model, self.case = model, case

    def trainable(self) -> dict[str, nn.Parameter]:
        """The adapter hangs beside the modules, and its parameters are none of the model's."""
        (adapter,) = ll.adapters_of(self.model)
        return {
            f"{layer}.{name}": parameter
            for layer, tensors in adapter.layers().items()
            for name, parameter in tensors.named_parameters()
        }

    def layer(self, i: int) -> nn.Module:
        (adapter,) = ll.adapters_of(self.model)
        return adapter.layers()[str(i)]

    def base(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in plain(self.model).items() if name.count(".") == 1}

    def absorb(self) -> nn.Module:
        ll.merge(self.model)
        return self.model

    def detach(self) -> nn.Module:
        ll.detach(self.model)
        return self.model

    def save(self, folder: Path) -> None:
        ll.save(self.model, folder / "adapter.safetensors")

    def settings(self) -> dict[str, Any]:
        (adapter,) = ll.adapters_of(self.model)
        return {name: getattr(adapter.config, name) for name, _ in self.case.settings}


class OwnLibrary(Library):
    """Through its public functions."""

    name = "lora_lite"
    package = "lora-lite"

    def missing(self) -> str | None:
        return None

    @cache  # noqa: B019  # one library a process
    def methods(self) -> Mapping[str, Method]:
        return {name: Method(name, _settings(name), OFFERED, numbers=_values(name)) for name in ll.VARIANTS}

    def identity(self, case: LibraryCase) -> bool:
        return True

    def settings(self, life: Any, case: LibraryCase) -> Any:
        (adapter,) = ll.adapters_of(life.model)
        return adapter.config

    def stops(self, case: LibraryCase) -> Stop | None:
        return Stop(ll.DoRA, "row_norms") if case.name == "dora" else None

    def continuous(self, case: LibraryCase) -> bool:
        return ll.VARIANTS[case.name].continuous(build_config(case.name, case.settings))

    def attach(self, model: nn.Module, case: LibraryCase) -> Life:
        data = None
        if ll.VARIANTS[case.name].needs_calibration:
            data = calibration_batches(case.seed, case.linear.d_in, case.dtype)
        # What is asked in float64 is asked of all of it: a step of a coarser tensor is rounded.
        wide = {"dtype": case.dtype} if case.dtype == torch.float64 else {}
        ll.attach(model, build_config(case.name, case.settings, **wide), data)
        return OwnLife(model, case)

    def load(self, model: nn.Module, folder: Path, case: LibraryCase) -> Life:
        ll.load(model, folder / "adapter.safetensors")
        return OwnLife(model, case)


def _values(name: str) -> dict[str, tuple[Any, ...]]:
    """What is drawn for each setting, simplest first."""
    found: dict[str, tuple[Any, ...]] = {**own_options(name), "alpha": ALPHAS, "r": (2, 1, 4)}
    unused = ll.VARIANTS[name].config_class.unused
    return {field: values for field, values in found.items() if field not in unused}


def _settings(name: str) -> st.SearchStrategy[Settings]:
    drawn = {field: st.sampled_from(values) for field, values in _values(name).items()}
    return st.fixed_dictionaries(drawn).map(lambda given: tuple(given.items()))
