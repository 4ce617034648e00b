"""Changes of a model that no interrupt splits: prepared in Python, then made in one call that runs none."""

from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from functools import wraps
from itertools import starmap
from operator import call
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

P = ParamSpec("P")
T = TypeVar("T")

# A function and its arguments. It should be one written in C, as the methods of dicts and tensors are.
Step = tuple[Any, ...]

HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
)


def at_once(steps: Sequence[Step], back: Sequence[Step] = ()) -> None:
    """Call each of `steps` in turn, as a single bytecode.

    Python looks for signals between bytecodes: an interrupt comes before the first step or after the last
    one, and whoever catches it finds all of them done or none. A step that fails all the same (a dict that
    refuses an entry, no memory for one) does end it half-way: then, and on an interrupt right after the last
    step, `back` is called. It must do no harm to what was not changed yet.
    """
    try:
        deque(starmap(call, steps), maxlen=0)
    except BaseException:
        deque(starmap(call, back), maxlen=0)
        raise


def as_it_is(mapping: MutableMapping[Any, Any]) -> list[Step]:
    """What makes the mapping what it is now again, its order included. The object stays: others hold it."""
    # Most are empty.
    return [(mapping.clear,), (mapping.update, dict(mapping))] if mapping else [(mapping.clear,)]


def layer_as_it_is(layer: nn.Module) -> list[Step]:
    """What gives a layer the children and forward hooks back that it has now."""
    held = (layer._modules, *(getattr(layer, hooks) for hooks in HOOKS))
    return [step for mapping in held for step in as_it_is(mapping)]


def attribute_as_it_is(owner: Any, name: str) -> Step:
    """What gives an object the attribute back that it has now, or none."""
    held = vars(owner)
    return (held.__setitem__, name, held[name]) if name in held else (held.pop, name, None)


def gradients_as_before(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: whatever stops the function, torch computes gradients afterwards if it did before.

    An interrupt inside of no_grad's own __exit__ would leave all of torch without them.
    """

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        mode = torch.is_grad_enabled()
        try:
            return function(*args, **kwargs)
        except BaseException:
            _compute_gradients(mode)
            raise

    return guarded


def _compute_gradients(mode: bool) -> None:
    # Written in C: set_grad_enabled has lines of its own, at which it could be stopped.
    torch._C._set_grad_enabled(mode)
