"""What an oracle says of a library's layer whose tensors are bound to its symbols."""

from dataclasses import dataclass

import torch
from torch import Tensor

from properties.judging.tolerance import Bounded, perturbed, perturbed_all, scatter
from properties.oracles import ORACLES
from properties.subjects.bindings import Binding
from properties.subjects.library import Life


@dataclass(frozen=True)
class Said:
    """Output, and the gradients of the input and of each trained tensor, under the library's names."""

    y: Bounded
    gradients: dict[str, Bounded]


def said(binding: Binding, life: Life, x: Tensor, upstream: Tensor) -> Said:
    """The oracle on copies that are off by one rounding, as the error model of all has it; x (tokens, d_in).

    The symbols are made from the library's tensors inside, so that gradients are those of the tensors.
    """
    base = life.base()
    tensors = perturbed_all("", dict(life.layer(0).named_parameters()), x.dtype)
    tensors = {name: tensor for name, tensor in tensors.items() if name in _trained(life)}
    W = perturbed("W", base["0.weight"], x.dtype, normwise=True)
    b = perturbed("b", base["0.bias"], x.dtype) if "0.bias" in base else None
    leaves = {"the input": perturbed("x", x, x.dtype), **tensors}
    for leaf in leaves.values():
        leaf.requires_grad_()
    copies = [binding.symbols({n: t[i] for n, t in tensors.items()}) for i in range(len(W))]
    p = {symbol: torch.stack([copy[symbol] for copy in copies]) for symbol in copies[0]}
    e = torch.zeros(*W.shape[:1], len(x), W.shape[1], dtype=W.dtype)
    forward, options = ORACLES[binding.oracle].forward, binding.options(life)
    y = forward(leaves["the input"], W, b, e, p, p, options)
    found = torch.autograd.grad((y * upstream.double()).sum(), list(leaves.values()))
    gradients = {n: scatter(g, x.dtype, normwise=True) for n, g in zip(leaves, found, strict=True)}
    return Said(scatter(y.detach(), x.dtype, normwise=True), gradients)


def _trained(life: Life) -> set[str]:
    return {name for name, p in life.layer(0).named_parameters() if p.requires_grad}
