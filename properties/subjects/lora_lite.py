"""lora_lite as a subject."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.subjects.protocol import Case
from strategies.options import build_config


class LoraLite:
    """lora_lite through its public functions; what it declares is read off its variants."""

    refusal: type[Exception] = ll.LoraLiteError

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

    def laws(self, case: Case) -> Mapping[str, Any]:
        return ll.VARIANTS[case.variant].laws

    def owner(self, case: Case) -> type:
        return ll.VARIANTS[case.variant]

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
