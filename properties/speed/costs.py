"""What happens once: attach, save and load on a model of 24 × 7 layers, in turn with reading its weights."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.fingerprint import fingerprint
from properties.speed.models import RANK, WITH_PEFT, Cost, config_and_data, model, on_peft

# Of each work; and seconds after which no further round begins.
ROUNDS, SECONDS = 9, 4.0
# Variants that take a decomposition of every weight, and what is asked of it.
DECOMPOSING = ("pissa", "antipasto")
SQUARE, NITER = 1024, 4


@dataclass(frozen=True)
class Work:
    """Something that happens once. prepare: makes what `run` gets, untimed."""

    run: Callable[[Any], Any]
    prepare: Callable[[], Any] = lambda: None


def once(variant: str) -> Iterator[Cost]:
    """Attach, save, load without the check of the base, and safetensors with the same tensors: milliseconds,
    and times what it takes to read every weight. Attach over its floor too, and beside peft's.
    """
    config, data = config_and_data(variant)
    adapted, base = model(), model()
    ll.attach(adapted, config, data)
    with tempfile.TemporaryDirectory() as folder:
        path, bare = Path(folder, "adapter"), Path(folder, "bare")
        ll.save(adapted, path)
        tensors = load_file(path)
        save_file(tensors, bare)
        works = {
            "reading": Work(lambda _: [weight.sum() for weight in weights_of(base)]),
            "making": Work(lambda _: made_anew(adapted)),
            "attach": Work(lambda fresh: ll.attach(fresh, config, data), model),
            "save": Work(lambda _: ll.save(adapted, path)),
            "load": Work(lambda fresh: ll.load(fresh, path, check_base=False), model),
            "safetensors save": Work(lambda _: save_file(tensors, bare)),
            "safetensors load": Work(lambda _: {n: t.clone() for n, t in load_file(bare).items()}),
        }
        if variant in WITH_PEFT and find_spec("peft"):
            works["peft"] = Work(partial(on_peft, variant), model)
        found = fastest(works)
    if "peft" in found:
        yield Cost(variant, "peft", "attach", found.pop("peft"), "ms")
    floor = found["reading"] + found["making"]
    yield Cost(variant, "lora_lite", "attach", found["attach"] / floor, "× floor")
    for what, milliseconds in found.items():
        yield Cost(variant, "lora_lite", what, milliseconds, "ms")
        if what in ("attach", "save", "load"):
            yield Cost(variant, "lora_lite", what, milliseconds / found["reading"], "× reading")
    if variant in DECOMPOSING:
        yield from decomposing(variant)


def made_anew(adapted: nn.Module) -> list[nn.Module]:
    """An adapter's tensors in modules of torch, filled: without this there is no adapter."""
    made = []
    for variant in adapted.modules():
        if isinstance(variant, ll.Variant):
            made.append(module := nn.Module())
            for name, tensor in variant.named_parameters():
                module.register_parameter(name, nn.Parameter(torch.empty_like(tensor).uniform_()))
    return made


def decomposing(variant: str) -> Iterator[Cost]:
    """Attach over the decompositions alone, of the very layers, by torch's default driver."""
    config, _ = config_and_data(variant)
    pairs: dict[str, tuple[ll.AdapterConfig, Callable[[Tensor], Any]]] = {
        "SVD": (config, lambda weight: torch.linalg.svd(weight, full_matrices=False))
    }
    if isinstance(config, ll.PiSSAConfig):
        randomised = ll.PiSSAConfig(r=RANK, niter=NITER)
        pairs["randomised SVD"] = (randomised, lambda W: torch.svd_lowrank(W, q=RANK, niter=NITER))
    for what, (chosen, decompose) in pairs.items():
        works = {
            "attach": Work(partial(ll.attach, config=chosen), _wide),
            "alone": Work(partial(_each, decompose), _wide),
        }
        found = fastest(works)
        yield Cost(variant, "lora_lite", "attach", found["attach"] / found["alone"], f"× {what}")


def _wide() -> nn.Module:
    """As wide as those of the table: a decomposition takes longer than what is done for any layer."""
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(SQUARE, SQUARE) for _ in range(2)))


def _each(decompose: Callable[[Tensor], Any], layers: nn.Module) -> None:
    for weight in weights_of(layers):
        decompose(weight)


def of_the_base() -> Iterator[Cost]:
    """What does not depend on the variant: the digests of all base parameters."""
    base = model()
    size = sum(p.numel() * p.element_size() for p in base.parameters())
    milliseconds = fastest({"fingerprint": Work(lambda _: fingerprint(base))})["fingerprint"]
    yield Cost("all", "lora_lite", "fingerprint", milliseconds, "ms")
    yield Cost("all", "lora_lite", "fingerprint", size / milliseconds / 1e6, "GB/s")


def weights_of(base: nn.Module) -> list[Tensor]:
    return [p.detach() for p in base.parameters() if p.ndim == 2]


def fastest(works: dict[str, Work]) -> dict[str, float]:
    """Milliseconds of the fastest of each work's runs, which take turns: what disturbs one disturbs all."""
    found: dict[str, list[float]] = {name: [] for name in works}
    began = time.perf_counter()
    for _ in range(ROUNDS):
        for name, work in works.items():
            found[name].append(_milliseconds(work.run, work.prepare()))
        if time.perf_counter() - began > SECONDS:
            break
    return {name: min(own) for name, own in found.items()}


def _milliseconds(run: Callable[[Any], Any], given: Any) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    run(given)
    return 1e3 * (clock() - began)
