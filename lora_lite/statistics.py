"""Modules of the base whose numbers move while it trains: kept still from attach to detach.

The running statistics of a batch norm, say, are no parameters, and forward passes in training mode write
them: no file would have them, and detach could not give them back. While an adapter is on, such a module
computes as in eval mode, whatever train() says. Its flag stays the user's own, and counts again after detach.
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import setitem
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.utils.hooks import RemovableHandle

from lora_lite.atomic import HOOKS, Step, attribute_as_it_is, layer_as_it_is
from lora_lite.errors import BaseWeightError

# Of such a module: its hooks' handles, and whether a forward that is on the way has found it in training.
STILL, TRAINS = "_lora_lite_still", "_lora_lite_trains"


def moves(module: nn.Module) -> bool:
    """Whether a forward pass in training mode writes its buffers, and one in eval mode does not."""
    if isinstance(module, _NormBase):
        return module.running_mean is not None or module.running_var is not None
    if isinstance(module, _SpectralNorm):
        return True
    # A layer under the older spectral_norm, whose hook looks at the layer's own flag.
    if any(isinstance(hook, SpectralNorm) for hook in module._forward_pre_hooks.values()):
        return True
    # Norms that others have written name these buffers as torch does.
    return any(name.startswith("running_") for name, held in module._buffers.items() if held is not None)


def refuse_observers(named: Iterable[tuple[str, nn.Module]]) -> None:
    """Raise BaseWeightError on what cannot be kept still: a quantiser that still gathers its range moves in
    eval mode too, and TorchScript calls no hooks.
    """
    for name, module in named:
        if isinstance(module, torch.jit.ScriptModule):
            if moves(module):
                raise BaseWeightError(
                    f"{name}: found TorchScript whose statistics move in training, wanted a base that stays."
                    " Attach before scripting, or freeze it with torch.jit.freeze."
                )
            continue
        enabled = module._buffers.get("observer_enabled")
        if enabled is None or not enabled.any():
            continue
        raise BaseWeightError(
            f"{name}: {type(module).__name__} changes its range at every forward, wanted a base that stays."
            " Call model.apply(torch.ao.quantization.disable_observer) first."
        )


def stamps_of(places: Iterable[Any]) -> list[Any]:
    """Of each place (a module's name, the module, and its buffer's own name), another one once somebody wrote
    to the buffer or put another there; None in eval mode, where what is written is a cache.
    """
    held = ((module, module._buffers.get(own)) for _, module, own in places)
    return [_stamp(buffer) if module.training and buffer is not None else None for module, buffer in held]


def _stamp(buffer: Tensor) -> tuple[int, int]:
    return id(buffer), 0 if buffer.is_inference() else buffer._version


def refuse_moved(places: Sequence[Any], before: Sequence[Any]) -> None:
    """Raise BaseWeightError where a forward wrote to a buffer in training mode, as nothing else here keeps
    still.
    """
    if not before or (now := stamps_of(places)) == before:
        return
    for (name, module, own), then, stamp in zip(places, before, now, strict=True):
        if then is not None and then != stamp:
            raise BaseWeightError(
                f"{name}: {type(module).__name__} writes its buffer {own} at every forward in training mode,"
                " wanted a base that stays: no file would have it, and detach could not give it back. Put it"
                " in eval mode after each train(), or register what is a mere cache with persistent=False."
            )


def keep_still(model: nn.Module) -> tuple[list[Step], list[Step]]:
    """What keeps the model's moving modules still from now on, and what takes that back."""
    steps: list[Step] = []
    back: list[Step] = []
    for module in model.modules():
        if moves(module) and STILL not in vars(module):
            first: Any = module._forward_pre_hooks
            before, after = RemovableHandle(first), RemovableHandle(module._forward_hooks)
            back += _as_it_is(module)
            steps += [
                (setitem, first, before.id, _into_eval),
                # First of all: the older spectral_norm is a hook itself.
                (first.move_to_end, before.id, False),
                (setitem, module._forward_hooks, after.id, _out_of_eval),
                (setitem, module._forward_hooks_always_called, after.id, True),
                (vars(module).__setitem__, STILL, (before, after)),
            ]
    return steps, back


def let_move(model: nn.Module) -> tuple[list[Step], list[Step]]:
    """What keep_still() did, undone; and what takes that back."""
    steps: list[Step] = []
    back: list[Step] = []
    for module in model.modules():
        for handle in vars(module).get(STILL, ()):
            steps += [(getattr(module, hooks).pop, handle.id, None) for hooks in HOOKS]
        if STILL in vars(module):
            back += _as_it_is(module)
            steps += [(vars(module).pop, name, None) for name in (STILL, TRAINS)]
    return steps, back


def _as_it_is(module: nn.Module) -> Iterator[Step]:
    yield from layer_as_it_is(module)
    yield attribute_as_it_is(module, STILL)


def _into_eval(module: Any, args: Any) -> None:
    if module.training:
        module.training, module._lora_lite_trains = False, True


def _out_of_eval(module: Any, args: Any, y: Any) -> None:
    if vars(module).get(TRAINS):
        module.training, module._lora_lite_trains = True, False
