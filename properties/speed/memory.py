"""What adapters hold in memory: in a training step, and at most during attach, save, load and merge.

Counted, and not asked of the system: the sizes of the tensors that operations make. What LAPACK takes for
itself inside of one is not among them.
"""

import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import lora_lite as ll
from properties.speed.layers import Contender, Size, cases, contenders, label, work
from properties.speed.models import Cost, config_and_data, model

STEP = Size(1024, 16, 512)


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Notes the bytes of the storages that operations make: the largest, and the most that lived at once.

    known: those that were there before, by their address.
    """

    def __init__(self, known: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.known = known
        self.alive: dict[int, int] = {}
        self.largest = self.now = self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **kwargs or {})
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return made

    def _note(self, storage: Any) -> None:
        at, size = storage._cdata, storage.nbytes()
        if at in self.alive or storage.data_ptr() in self.known:
            return
        self.alive[at] = size
        weakref.finalize(storage, self._gone, at)
        self.largest = max(self.largest, size)
        self.now += size
        self.most = max(self.most, self.now)

    def _gone(self, at: int) -> None:
        self.now -= self.alive.pop(at)


def held_by(*modules: nn.Module) -> set[int]:
    """Where their parameters and buffers lie."""
    tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def memory(contender: Contender, x: Tensor, upstream: Tensor) -> tuple[int, int]:
    """Of one training step, in bytes: what autograd keeps from forward to backward, and the largest tensor
    made on the way.

    Counted apart from x, the layer's and the adapter's own tensors.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in (x, upstream)} | held_by(contender.layer)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with Live(known) as live, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        contender.gradients(x, upstream)
    return sum(kept.values()), live.largest


def of_a_step(variant: str) -> Iterator[Cost]:
    """Memory of ours and of peft's: for each token, and what there is whatever the tokens."""
    doubled = replace(STEP, tokens=2 * STEP.tokens)
    for once, twice in zip(cases(variant, STEP), cases(variant, doubled), strict=True):
        _, few = contenders(once, check=False)
        _, many = contenders(twice, check=False)
        for name in few:
            kept, largest = memory(few[name], *work(once))
            more, _ = memory(many[name], *work(twice))
            slope = (more - kept) / STEP.tokens
            yield Cost(label(once), name, "kept for backward, a token", slope, "B")
            fixed = (kept - slope * STEP.tokens) / 1024
            yield Cost(label(once), name, "kept for backward, besides", fixed, "KiB")
            yield Cost(label(once), name, "largest tensor of a step", largest / 1024, "KiB")


def of_a_life(variant: str) -> Iterator[Cost]:
    """The most that is held besides the base while an adapter of 24 × 7 layers is attached, saved, loaded and
    merged; beside its own size, and the largest layer's.
    """
    config, data = config_and_data(variant)
    base = model()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "adapter")
        steps: dict[str, Callable[[], Any]] = {
            "attach": lambda: ll.attach(base, config, data),
            "save": lambda: ll.save(base, path),
            "detach": lambda: ll.detach(base),
            "load": lambda: ll.load(base, path),
            "merge": lambda: ll.merge(base),
        }
        own = 0
        for name, step in steps.items():
            with Live(held_by(base)) as live:
                step()
            if name == "attach":
                own = sum(p.nbytes for a in ll.adapters_of(base) for p in tensors_of(a))
                layer = max(p.nbytes for p in base.parameters())
                yield Cost(variant, "lora_lite", "the adapter's own size", own / 1024, "KiB")
                yield Cost(variant, "lora_lite", "the largest layer", layer / 1024, "KiB")
            if name != "detach":
                yield Cost(variant, "lora_lite", f"held at most by {name}", live.most / 1024, "KiB")


def tensors_of(adapter: ll.Adapter) -> list[Tensor]:
    """Trained and frozen ones."""
    return [tensor for _, tensor in (*adapter.named_parameters(), *adapter.named_buffers())]
