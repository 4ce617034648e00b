"""Recipes of bases that are more than their parameters: statistics that move in training, masks, codes,
scales and extra state beside a linear layer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from strategies.layers import SEEDS
from strategies.tensors import device, gaussian

WIDTH = 4


class Running(nn.Module):
    """Somebody's own norm, which follows the largest entry that it has seen in training."""

    running_peak: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_peak", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.running_peak.copy_(torch.maximum(self.running_peak, x.abs().amax()))
        return x / self.running_peak


class Following(nn.Module):
    """Somebody's own mean of what it has seen in training, under a name that tells nothing.

    how: "in place", "anew", "as a cache", which no state dict has, or "in eval mode", as a cache of keys is.
    """

    seen: Tensor

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("seen", torch.zeros(WIDTH), persistent=how != "as a cache")

    def forward(self, x: Tensor) -> Tensor:
        if self.training == (self.how != "in eval mode"):
            mean = x.detach().mean(0)
            if self.how == "anew":
                self.seen = 0.9 * self.seen + 0.1 * mean
            else:
                self.seen.lerp_(mean, 0.1)
        return x - self.seen


class Norming(nn.Module):
    """Goes around its batch norm's hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm.forward(x)


# What writes buffers that nothing keeps still: refused as it does so. And what may write them.
WRITING: dict[str, Callable[[], nn.Module]] = {
    "a mean in place": lambda: Following("in place"),
    "a mean that is made anew": lambda: Following("anew"),
    "a norm whose hooks are passed by": Norming,
}
CACHING: dict[str, Callable[[], nn.Module]] = {
    "a cache": lambda: Following("as a cache"),
    "a cache of eval mode": lambda: Following("in eval mode"),
}


class Scaled(nn.Module):
    """A scale in a buffer, one that no state dict has, and one among the extra state."""

    scale: Tensor
    cache: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(WIDTH))
        self.register_buffer("cache", torch.ones(WIDTH), persistent=False)
        self.extra: dict[str, Any] = {"shift": torch.zeros(WIDTH), "times": 2}

    def get_extra_state(self) -> dict[str, Any]:
        return self.extra

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.extra = state

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale * self.extra["times"] + self.extra["shift"].to(x)  # type: ignore[no-any-return]


class Codes(nn.Linear):
    """As int8 layers keep their weight: codes in a buffer."""

    codes: Tensor

    def __init__(self) -> None:
        super().__init__(WIDTH, WIDTH, bias=False)
        del self.weight
        self.register_parameter("weight", None)
        self.register_buffer("codes", (gaussian(0, "codes", (WIDTH, WIDTH)) * 40).to(torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.codes.to(x) / 127).mT


def _pruned(layer: nn.Module) -> nn.Module:
    prune.l1_unstructured(layer, "weight", 0.5)  # type: ignore[no-untyped-call]  # torch's own
    return layer


# What moves in training mode, whatever moves it.
MOVING: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm1d(WIDTH),
    "batch norm without momentum": lambda: nn.BatchNorm1d(WIDTH, momentum=None, affine=False),
    "instance norm": lambda: nn.InstanceNorm1d(WIDTH, track_running_stats=True),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH)),
    "the older spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(WIDTH, WIDTH)),
    "a norm of one's own": Running,
}
# What stands still and is no parameter, and the buffers in which it lies; "" for extra state.
STANDING: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "a scale": (Scaled, ("scale", "")),
    "codes": (Codes, ("codes",)),
    "a mask": (lambda: _pruned(nn.Linear(WIDTH, WIDTH)), ("weight_mask",)),
    "statistics": (lambda: nn.BatchNorm1d(WIDTH), ("running_mean", "running_var", "num_batches_tracked")),
}


@dataclass(frozen=True)
class Base:
    """A linear layer, what is called `beside`, and another linear layer.

    frozen: the user put `beside` in eval mode. adapts: the adapter is on it too, where it is a linear layer.
    """

    variant: str
    beside: str
    frozen: bool = False
    adapts: bool = False
    seed: int = 0

    def build(self) -> nn.Sequential:
        """In training mode, or all but what the user froze."""
        made = {**MOVING, **WRITING, **CACHING}.get(self.beside) or STANDING[self.beside][0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = nn.Sequential(nn.Linear(WIDTH, WIDTH), made(), nn.Linear(WIDTH, WIDTH)).to(device())
        if self.frozen:
            model[1].eval()
        return model

    def names(self) -> tuple[str, ...]:
        """Patterns of the layers that are to be adapted."""
        return ("0", "1", "2") if self.adapts else ("0", "2")

    def batch(self, seed: int = 0) -> Tensor:
        """(tokens, WIDTH); with leading channels for what norms whole instances."""
        shape = (3, WIDTH, WIDTH) if self.beside == "instance norm" else (5, WIDTH)
        return gaussian(self.seed + seed, "batch", shape) + 2


def _adaptable(variant: str, kinds: Mapping[str, Any]) -> st.SearchStrategy[Base]:
    own, linear = st.just(variant), [kind for kind in kinds if "spectral" in kind]
    beside = st.builds(Base, own, st.sampled_from(tuple(kinds)), st.booleans(), st.just(False), SEEDS)
    if not linear:
        return beside
    return beside | st.builds(Base, own, st.sampled_from(linear), st.booleans(), st.just(True), SEEDS)


def moving_bases(variant: str) -> st.SearchStrategy[Base]:
    """With what moves in training. Shrinks towards a batch norm."""
    return _adaptable(variant, MOVING)


def standing_bases(variant: str) -> st.SearchStrategy[Base]:
    """With what is no parameter and stands still. Shrinks towards a scale."""
    return _adaptable(variant, STANDING)
