"""Whether a layer computes x Wᵀ + b: where its class does not tell, it is tried."""

import copy

import torch
from torch import Tensor, nn

from lora_lite.linear import read_bias, read_weight


@torch.no_grad()
def computes_linear(layer: nn.Module) -> bool:
    """Whether its class's forward is x Wᵀ + b of read_weight and read_bias, in eval mode and in training:
    tried on two tokens, in float64, the same at every call. Neither the layer nor torch's generator moves.
    """
    devices = {p.device for p in layer._parameters.values() if p is not None and p.is_cuda}
    with torch.random.fork_rng(devices=devices):
        return all(_computes_linear(_apart(layer, training, {})) for training in (False, True))


def _apart(module: nn.Module, training: bool, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """A copy with modes, parts and buffers of its own; a part may hold its owner."""
    if module not in made:
        twin = made[module] = copy.copy(module)
        buffers = {name: None if b is None else b.clone() for name, b in module._buffers.items()}
        parts = {
            name: None if m is None else _apart(m, training, made) for name, m in module._modules.items()
        }
        vars(twin).update(training=training, _buffers=buffers, _modules=parts)
    return made[module]


def _computes_linear(twin: nn.Module) -> bool:
    # Its own numbers alone: a part of it may hold its owner.
    own = {
        name: None if p is None else nn.Parameter(p.detach().double()) for name, p in twin._parameters.items()
    }
    vars(twin)["_parameters"] = own
    W, b = read_weight(twin), read_bias(twin)
    x = torch.arange(1, 2 * W.shape[1] + 1, dtype=W.dtype, device=W.device).sin().view(2, -1)
    try:
        y = type(twin).forward(twin, x)
    except (TypeError, RuntimeError):  # it wants more than an input, or another one
        return False
    wanted, size = x @ W.mT, x.abs() @ W.mT.abs()
    if b is not None:
        wanted, size = wanted + b, size + b.abs()
    bound = torch.finfo(W.dtype).eps * W.shape[1] * size
    # A base with NaN in it is told as such elsewhere.
    return isinstance(y, Tensor) and y.shape == wanted.shape and not bool(((y - wanted).abs() > bound).any())
