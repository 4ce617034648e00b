"""What happens once: attach, save and load on a model of 24 × 7 layers; and the memory of a training step."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import lora_lite as ll
from lora_lite.fingerprint import fingerprint
from properties.speed.layers import Contender, Size, case_of, cases, contenders, label, work
from strategies import gaussian

LAYERS, WIDTH, INNER, RANK = 24, 256, 512, 8
MEMORY = Size(1024, 16, 32)


@dataclass(frozen=True)
class Cost:
    """One figure. unit: "ms", "GB/s", "KiB"."""

    variant: str
    implementation: str
    what: str
    value: float
    unit: str


class Block(nn.Module):
    """Seven linear layers, as a transformer's block has them."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.gate, self.up, self.down = (
            nn.Linear(WIDTH, INNER),
            nn.Linear(WIDTH, INNER),
            nn.Linear(INNER, WIDTH),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.layer_norm(x, (WIDTH,))
        x = x + self.o(self.q(x) + self.k(x) + self.v(x))
        return x + self.down(self.gate(x).relu() * self.up(x))  # type: ignore[no-any-return]


def model() -> nn.Module:
    """The same weights each time."""
    torch.manual_seed(0)
    return nn.Sequential(*(Block() for _ in range(LAYERS)))


def once(variant: str) -> Iterator[Cost]:
    """Attach, save, load without the check of the base, and safetensors with the same tensors."""
    case = case_of(variant, Size(WIDTH, RANK, 1))
    calibration = (
        [gaussian(0, "calibration", (2 * INNER, WIDTH))] if ll.VARIANTS[variant].needs_calibration else None
    )
    config = ll.VARIANTS[variant].config_class(
        **{name: value for name, value in case.options if name != "dtype"}
    )

    def cost(what: str, prepare: Callable[[], Any], run: Callable[[Any], Any]) -> Cost:
        return Cost(variant, "lora_lite", what, fastest(run, prepare), "ms")

    yield cost("attach", model, lambda base: ll.attach(base, config, calibration))
    adapted = model()
    ll.attach(adapted, config, calibration)
    with tempfile.TemporaryDirectory() as folder:
        path, bare = Path(folder, "adapter"), Path(folder, "bare")
        yield cost("save", lambda: None, lambda _: ll.save(adapted, path))
        tensors = load_file(path)
        yield cost("load", model, lambda base: ll.load(base, path, check_base=False))
        yield cost("safetensors save", lambda: None, lambda _: save_file(tensors, bare))
        yield cost(
            "safetensors load", lambda: None, lambda _: {n: t.clone() for n, t in load_file(bare).items()}
        )


def of_the_base() -> Iterator[Cost]:
    """What does not depend on the variant: the digests of all base parameters, and the SVD of every
    weight.
    """
    base = model()
    size = sum(p.numel() * p.element_size() for p in base.parameters())
    milliseconds = fastest(fingerprint, lambda: base)
    yield Cost("all", "lora_lite", "fingerprint", milliseconds, "ms")
    yield Cost("all", "lora_lite", "fingerprint", size / milliseconds / 1e6, "GB/s")
    weights = [p.detach() for p in base.parameters() if p.ndim == 2]
    yield Cost("all", "torch", "svd", fastest(_svds, lambda: weights), "ms")


def _svds(weights: list[Tensor]) -> None:
    for weight in weights:
        torch.linalg.svd(weight, full_matrices=False)


def fastest(run: Callable[[Any], Any], prepare: Callable[[], Any], seconds: float = 2.0) -> float:
    """Milliseconds of the fastest of up to five runs on what `prepare` makes, within about `seconds`."""
    found = [_milliseconds(run, prepare())]
    while len(found) < 5 and sum(found) < 1e3 * seconds:
        found.append(_milliseconds(run, prepare()))
    return min(found)


def _milliseconds(run: Callable[[Any], Any], given: Any) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    run(given)
    return 1e3 * (clock() - began)


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Notes the size in bytes of the largest storage that an operation makes; `known` ones lived before."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.known = known
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **kwargs or {})
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return made


def memory(contender: Contender, x: Tensor, upstream: Tensor) -> tuple[int, int]:
    """Of one training step, in bytes: what autograd keeps from forward to backward, and the largest tensor
    made on the way.

    Counted apart from x, the layer's and the adapter's own tensors.
    """
    lived = (x, upstream, *contender.layer.parameters(), *contender.layer.buffers())
    known = {tensor.untyped_storage().data_ptr() for tensor in lived}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with Largest(known) as largest, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        contender.gradients(x, upstream)
    return sum(kept.values()), largest.bytes


def of_a_step(variant: str) -> Iterator[Cost]:
    """Memory of ours and of peft's."""
    for case in cases(variant, MEMORY):
        _, adapted = contenders(case)
        for name, contender in adapted.items():
            kept, largest = memory(contender, *work(case))
            yield Cost(label(case), name, "kept for backward", kept / 1024, "KiB")
            yield Cost(label(case), name, "largest tensor", largest / 1024, "KiB")
