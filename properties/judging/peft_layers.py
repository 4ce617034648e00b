"""peft's own adapters with the tensors of an observed layer copied into them.

Through peft's public functions alone: a config, inject_adapter_in_model, and the names of the parameters in
its checkpoints.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from hypothesis.strategies import SearchStrategy, sampled_from
from torch import Tensor, nn

from properties.judging.expected import Expected, expected, options_of
from properties.judging.tolerance import Bounded, rounding
from properties.subjects.layer_runs import Layer
from strategies import AdaptedLayer, trained_layers

if TYPE_CHECKING:
    from peft import LoraConfig, PeftConfig

TARGETS = ["0"]


@dataclass(frozen=True)
class Peer:
    """peft's layer in a Sequential, and which of its parameters holds which of ours.

    as_ours: the layout that ours has of a tensor in peft's layout, but for dimensions of length 1.
    terms: the size of the terms that peft sums to y and to dx, where they cancel in a way that no probe of
    the oracle's shows.
    """

    model: nn.Module
    parameters: dict[str, nn.Parameter]
    as_ours: Callable[[Tensor], Tensor] = lambda tensor: tensor
    terms: tuple[Tensor, Tensor] = (torch.zeros(()), torch.zeros(()))


def expected_by_peft(layer: Layer) -> Expected:
    """What peft makes of the layer's tensors, input and upstream gradient, (tokens, ...).

    Both sides round: twice the bound.
    """
    peer = PEFT[layer.case.variant].build(layer)
    # For a single vector peft's DoRA returns one dimension more than its base does: all rows come as one
    # batch.
    x = layer.x.detach().reshape(-1, layer.x.shape[-1]).requires_grad_()
    y: Tensor = peer.model(x)
    dx, *gradients = torch.autograd.grad(y, [x, *peer.parameters.values()], layer.upstream.reshape(y.shape))
    ours = expected(layer)
    lost_y, lost_dx = (rounding(size.double(), y.dtype) for size in peer.terms)
    return Expected(
        Bounded(y.detach().double(), 2 * (ours.y.error + lost_y)),
        Bounded(dx.double(), 2 * (ours.dx.error + lost_dx)),
        {
            name: Bounded(peer.as_ours(gradient).double(), 2 * ours.gradients[name].error)
            for name, gradient in zip(peer.parameters, gradients, strict=True)
        },
    )


def lora(layer: Layer) -> Peer:
    """EVA too: the two differ in A's init alone."""
    return _peer(layer, _lora_config(layer), _lora_tensors(layer))


def pissa(layer: Layer) -> Peer:
    """A LoRA on what peft writes into the base weight, W − s B₀ A₀; its own SVD may take another basis than
    ours.
    """
    config = _lora_config(layer)
    A0, B0 = layer.initial["A"].double(), layer.initial["B"].double()
    residual = layer.weight - config.lora_alpha / config.r * B0 @ A0
    return _peer(layer, config, _lora_tensors(layer), weight=residual.to(layer.weight.dtype))


def dora(layer: Layer) -> Peer:
    """peft computes y as x Wᵀ + b + (m/n − 1) x Wᵀ + …, which cancels where m/n is small, and its gradient
    likewise.

    Where d_in = 1, V/n is a sign whatever W and the update are; they are rounded at their own size before
    they cancel.
    """
    config = _lora_config(layer, use_dora=True)
    held = {**_lora_tensors(layer), "m": ("lora_magnitude_vector.default.weight", layer.tensors["m"])}
    peer = _peer(layer, config, held)
    W, A, B, m = (
        tensor.detach() for tensor in (layer.weight, *(layer.tensors[name] for name in ("A", "B", "m")))
    )
    s = config.lora_alpha / config.r
    ratio = (m / (W + s * B @ A).norm(dim=1)).abs()
    y = (layer.x.detach() @ W.mT).abs() + (0 if layer.bias is None else layer.bias.abs())
    dx = (layer.upstream.abs() * (1 + ratio)) @ (W.abs() + s * B.abs() @ A.abs())
    return replace(peer, terms=(y.reshape(-1, len(W)), dx.reshape(-1, W.shape[1])))


def delora(layer: Layer) -> Peer:
    """peft takes the column norms of W itself."""
    from peft import DeloraConfig

    held = {
        "A": ("delora_A.default", layer.tensors["A"]),
        "B": ("delora_B.default", layer.tensors["B"]),
        "lambda_": ("delora_lambda.default", layer.tensors["lambda_"]),
    }
    return _peer(layer, DeloraConfig(r=options_of(layer.case)["r"], target_modules=TARGETS), held)


def ia3(layer: Layer, feedforward_modules: list[str] | None = None) -> Peer:
    """peft holds the gate, we its offset from 1: they have the same gradient."""
    from peft import IA3Config

    config = IA3Config(target_modules=TARGETS, feedforward_modules=feedforward_modules or [])
    return _peer(layer, config, {"offset": ("ia3_l.default", 1 + layer.tensors["offset"])})


def ia3_ff(layer: Layer) -> Peer:
    return ia3(layer, feedforward_modules=TARGETS)


def hra(layer: Layer) -> Peer:
    """peft's reflections are columns, ours rows."""
    from peft import HRAConfig

    config = HRAConfig(r=options_of(layer.case)["r"], target_modules=TARGETS)
    peer = _peer(layer, config, {"U": ("hra_u.default", layer.tensors["U"].mT)})
    return replace(peer, as_ours=lambda tensor: tensor.mT)


@dataclass(frozen=True)
class Entry:
    """How to build the peer of a variant's layer, and the cases for which peft has one."""

    build: Callable[[Layer], Peer]
    covers: Callable[[AdaptedLayer], bool] = lambda case: True


def has_zero_b_and_turns(case: AdaptedLayer) -> bool:
    """peft's DeLoRA has that init alone.

    A direction on a line cannot turn: our gradient is exactly zero, peft's is noise.
    """
    return case.option["init"] == "zero_b" and min(case.linear.d_in, case.linear.d_out) > 1


PEFT = {
    "lora": Entry(lora),
    "pissa": Entry(pissa),
    "dora": Entry(dora),
    "delora": Entry(delora, covers=has_zero_b_and_turns),
    "ia3": Entry(ia3),
    "ia3_ff": Entry(ia3_ff),
    "hra": Entry(hra),
    "eva": Entry(lora),
}


# Why a built-in variant has no peer.
NO_PEER = {
    "antipasto": "peft has no AntiPaSTO: its own dense formula is all that there is",
    "full": "peft copies the whole layer (modules_to_save), which computes what the oracle says",
}


def _lora_config(layer: Layer, **options: Any) -> "LoraConfig":
    from peft import LoraConfig

    ours = options_of(layer.case)
    # alpha is declared an int there, and divided by r all the same.
    return LoraConfig(
        r=ours["r"], lora_alpha=ours["alpha"], target_modules=TARGETS, init_lora_weights=False, **options
    )


def _lora_tensors(layer: Layer) -> dict[str, tuple[str, Tensor]]:
    return {name: (f"lora_{name}.default.weight", layer.tensors[name]) for name in ("A", "B")}


def _peer(
    layer: Layer,
    config: "PeftConfig",
    held: Mapping[str, tuple[str, Tensor]],
    *,
    weight: Tensor | None = None,
) -> Peer:
    """peft's layer on a copy of the base layer. held: by our name, peft's name and what is to stand there.

    weight: of the base layer, where it is not ours.
    """
    from peft import inject_adapter_in_model

    d_out, d_in = layer.weight.shape
    base = nn.Linear(d_in, d_out, bias=layer.bias is not None, device="meta")
    base.weight = nn.Parameter((layer.weight if weight is None else weight).clone())
    if layer.bias is not None:
        base.bias = nn.Parameter(layer.bias.clone())
    model: nn.Module = inject_adapter_in_model(config, nn.Sequential(base))
    theirs = {name.removeprefix("0."): p for name, p in model.named_parameters() if p.requires_grad}
    if set(theirs) != {name for name, _ in held.values()}:
        raise LookupError(
            f"peft trains {sorted(theirs)} where {sorted(name for name, _ in held.values())} was copied"
        )
    parameters = {ours: theirs[name] for ours, (name, _) in held.items()}
    with torch.no_grad():
        for ours, (_, value) in held.items():
            parameters[ours].copy_(value.reshape(parameters[ours].shape))
    return Peer(model, parameters)


def shared_with_peft(variant: str) -> SearchStrategy[AdaptedLayer]:
    """Trained layers that peft has too, one dtype throughout: where dtypes mix, each library rounds in places
    of its own.

    At init peft divides by zero for a zero row of W (DoRA) and a zero row of U (HRA). Trained parameters are
    never there, so that every family of weights can stay.
    """
    dtypes = sampled_from(("float32", "float64"))
    layers = dtypes.flatmap(
        lambda dtype: trained_layers(variant, base_dtypes=(dtype,), adapter_dtypes=(dtype,))
    )
    return layers.filter(PEFT[variant].covers)
