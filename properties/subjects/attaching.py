"""Builds the base of a case, attaches its adapter, and moves that away from init where the case says so."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from properties.subjects import subject
from strategies import AdaptedLayer, AdaptedModel, gaussian, upright

AnyCase = AdaptedLayer | AdaptedModel


@dataclass
class Attached:
    """A model with the adapter of a case on it, and what it was before."""

    case: AnyCase
    model: nn.Module
    base: dict[str, Tensor]
    initial: dict[str, dict[str, Tensor]]

    def weight(self, name: str) -> Tensor:
        """What the weight of layer `name` was, (d_out, d_in)."""
        return upright(self.model.get_submodule(name), self.base[f"{name}.weight"])


def attach(case: AnyCase, model: nn.Module | None = None, **common: Any) -> Attached:
    """Build the base, attach, and train if the case says so."""
    model = case.build() if model is None else model
    base = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    # Inits draw from the global generator: the same case must give the same adapter.
    seed_inits(case.seed)
    subject.attach(model, case, **common)
    initial = {
        target: {name: tensor.detach().clone() for name, tensor in tensors.items()}
        for target, tensors in subject.tensors(model).items()
    }
    attached = Attached(case, model, base, initial)
    if case.trained:
        train(attached)
    return attached


def seed_inits(seed: int) -> None:
    """As torch.manual_seed, without the stack traces that it formats where there is no accelerator (a sixth
    of a case).
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def train(attached: Attached) -> None:
    """Move every trainable tensor away from init, by about half of its own size or of what its width makes
    usual.
    """
    with torch.no_grad():
        for target, tensors in subject.tensors(attached.model).items():
            for name, tensor in tensors.items():
                if isinstance(tensor, nn.Parameter):
                    step = gaussian(attached.case.seed, f"train {target} {name}", tuple(tensor.shape))
                    tensor.copy_(tensor + 0.5 * usual_size(tensor) * step)


def usual_size(tensor: Tensor) -> float:
    """Of an entry: as large as they are, or as what its width makes usual."""
    usual: float = (tensor.shape[-1] if tensor.ndim else 1) ** -0.5
    return max(float(tensor.detach().double().square().mean().sqrt()) if tensor.numel() else 0.0, usual)


def step(attached: Attached, size: float) -> None:
    """Move every trainable entry by about `size`, as a first optimiser step does."""
    with torch.no_grad():
        for target, tensors in subject.tensors(attached.model).items():
            for name, tensor in tensors.items():
                if isinstance(tensor, nn.Parameter):
                    role = f"step {target} {name}"
                    tensor.add_(size * gaussian(attached.case.seed, role, tuple(tensor.shape)))
