"""The random numbers behind a recipe, kept: a generator's stream may change between releases of torch.

Kept are the pools of strategies.gaussian by seed and role, and what torch itself draws (the inits of
adapters) by operator, shape and turn; not what the library makes of them, which a fix may change. Draws from
a generator of the caller's own (the probes of the tolerance) are no part of a case.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from strategies import tensors


@contextmanager
def recorded() -> Iterator[dict[str, Tensor]]:
    """Every number that is drawn inside, by name; complete at the end."""
    kept: dict[str, Tensor] = {}

    def note(name: str, drawn: Tensor) -> Tensor:
        if name not in kept or kept[name].numel() < drawn.numel():
            kept[name] = drawn.detach().cpu().clone()
        return drawn

    with tensors.drawing_through(note), _Seeded(note):
        yield kept


@contextmanager
def served(kept: Mapping[str, Tensor]) -> Iterator[None]:
    """The numbers kept, in place of fresh ones; what came after the failure was not kept, and is drawn from
    its seed.
    """

    def serve(name: str, drawn: Tensor) -> Tensor:
        if name not in kept or kept[name].numel() < drawn.numel():
            return drawn
        return kept[name].flatten()[: drawn.numel()].reshape(drawn.shape).to(drawn)

    with tensors.drawing_through(serve), _Seeded(serve):
        yield


class _Seeded(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook
    """Hands every draw from torch's global generator to `through`, and what that returns to the caller."""

    def __init__(self, through: tensors.Through) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.through = through
        self.turns: Counter[str] = Counter()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Keeping torch.compile out of this costs two seconds of imports, and nothing is compiled here.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        own = kwargs.get("generator") is not None or any(isinstance(value, torch.Generator) for value in args)
        if torch.Tag.nondeterministic_seeded not in func.tags or own or not isinstance(result, Tensor):
            return result
        name = f"{func.name()} {tuple(result.shape)}"
        self.turns[name] += 1
        drawn = self.through(f"{name} {self.turns[name]}", result)
        return result if drawn is result else result.copy_(drawn)
