"""The small protocol through which properties touch an implementation, and lora_lite behind it.

Whoever wants another implementation judged writes a class with these methods; no property looks past them.
"""

from os import PathLike
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import lora_lite as ll
from strategies import DTYPES
from strategies.options import build_config


class Case(Protocol):
    """What a property needs to know of a recipe in order to attach."""

    @property
    def variant(self) -> str: ...
    @property
    def options(self) -> tuple[tuple[str, Any], ...]: ...
    def calibration(self) -> Any: ...


class Implementation(Protocol):
    """Attach from a drawn case, look at the tensors, save, load, merge, detach."""

    def attach(self, model: nn.Module, case: Case, **common: Any) -> None:
        """Adapt all linear layers of `model`, or those that the common config fields in `common` select."""

    def tensors(self, model: nn.Module) -> dict[str, dict[str, Tensor]]:
        """Live tensors by target and name; the trainable ones are nn.Parameters."""

    def first_gradients(self, model: nn.Module) -> dict[str, dict[str, str]]:
        """What each trainable tensor's first gradient is declared to be, "zero" or "nonzero"."""

    def constant_inits(self, model: nn.Module) -> dict[str, set[str]]:
        """The trainable tensors that start as a constant of the variant's own choice, by target: a gate, a
        zero B.
        """

    def identity(self, case: Case) -> str:
        """Whether a fresh adapter of this config is an identity "exact"ly or to "rounding"."""

    def continuous(self, case: Case) -> bool:
        """Whether a small first step from init is declared a small change of the output."""

    def save(self, model: nn.Module, path: PathLike[str]) -> None: ...
    def load(self, model: nn.Module, path: PathLike[str], **options: Any) -> None: ...
    def merge(self, model: nn.Module) -> None: ...
    def detach(self, model: nn.Module) -> None: ...


class LoraLite:
    """The Implementation that is lora_lite itself."""

    def attach(self, model: nn.Module, case: Case, **common: Any) -> None:
        ll.attach(model, build_config(case.variant, case.options, **common), case.calibration())

    def tensors(self, model: nn.Module) -> dict[str, dict[str, Tensor]]:
        return {
            name: {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
            for adapter in ll.adapters_of(model)
            for name, layer in adapter.layers().items()
        }

    def first_gradients(self, model: nn.Module) -> dict[str, dict[str, str]]:
        return {
            name: {
                tensor: spec.first_gradient
                for tensor, spec in layer.specs(layer.shape, layer.config).items()
                if spec.first_gradient is not None
            }
            for adapter in ll.adapters_of(model)
            for name, layer in adapter.layers().items()
        }

    def constant_inits(self, model: nn.Module) -> dict[str, set[str]]:
        return {
            name: {
                tensor
                for tensor, spec in layer.specs(layer.shape, layer.config).items()
                if _is_constant(spec)
            }
            for adapter in ll.adapters_of(model)
            for name, layer in adapter.layers().items()
        }

    def continuous(self, case: Case) -> bool:
        return ll.VARIANTS[case.variant].continuous(build_config(case.variant, case.options))

    def identity(self, case: Case) -> str:
        return ll.VARIANTS[case.variant].identity(build_config(case.variant, case.options))

    def save(self, model: nn.Module, path: PathLike[str]) -> None:
        ll.save(model, path)

    def load(self, model: nn.Module, path: PathLike[str], **options: Any) -> None:
        ll.load(model, path, **options)

    def merge(self, model: nn.Module) -> None:
        ll.merge(model)

    def detach(self, model: nn.Module) -> None:
        ll.detach(model)


def _is_constant(spec: ll.ParamSpec) -> bool:
    if not spec.trainable or spec.init is None:
        return False
    once, again = torch.empty(spec.shape), torch.empty(spec.shape)
    spec.init(once)
    spec.init(again)
    return torch.equal(once, again)


implementation: Implementation = LoraLite()


def adapter_dtype(case: Case) -> torch.dtype:
    """The dtype that the case asks for the adapter; float32 where it asks for none."""
    return DTYPES[dict(case.options).get("dtype", "float32")]
