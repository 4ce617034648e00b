"""What the probe's models read: sentences of Python's own documentation, or token sequences for want of a
tokenizer.
"""

import importlib
import inspect
import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from strategies.tensors import device

# Every Python has them, and a reader can tell them apart by what a sentence is about.
MODULES = ("datetime", "math", "pathlib", "threading")
FEWEST_WORDS = 5


def sentences(each: int, seed: int) -> tuple[list[str], list[int]]:
    """The first sentence of `each` docstrings of each of MODULES, and which module it is from; in turn, in a
    drawn order.

    A sentence that occurs twice is left out: unseen text must be unseen. Raises RuntimeError where Python was
    told to drop docstrings.
    """
    found = {module: list(dict.fromkeys(_first_sentences(module))) for module in MODULES}
    owners: dict[str, int] = {}
    for of_module in found.values():
        for sentence in of_module:
            owners[sentence] = owners.get(sentence, 0) + 1
    drawn = []
    for module, of_module in found.items():
        own = sorted(sentence for sentence in of_module if owners[sentence] == 1)
        if len(own) < each:
            raise RuntimeError(
                f"{module}: {len(own)} sentences in its docstrings, wanted {each}. Run Python without -OO,"
                " which drops them."
            )
        drawn.append(random.Random(f"{seed} {module}").sample(own, each))
    in_turn = [(sentence, label) for row in zip(*drawn, strict=True) for label, sentence in enumerate(row)]
    return [sentence for sentence, _ in in_turn], [label for _, label in in_turn]


def _first_sentences(module: str) -> Iterator[str]:
    """Of everything public that the module defines, and of the methods of its classes."""
    for member in _public(importlib.import_module(module), module):
        for documented in (member, *(_public(member, module) if inspect.isclass(member) else ())):
            paragraph = (documented.__doc__ or "").strip().split("\n\n")[0]
            sentence = " ".join(paragraph.split())
            # A signature tells the module by its look and not by what it says.
            if len(sentence.split()) >= FEWEST_WORDS and "->" not in sentence:
                yield sentence


def _public(owner: Any, module: str) -> Iterator[Any]:
    for name, member in sorted(vars(owner).items()):
        home = getattr(member, "__module__", None) or module
        at_home = home.split(".")[0].removeprefix("_").removeprefix("py") == module
        if not name.startswith("_") and callable(member) and isinstance(member.__doc__, str) and at_home:
            yield member


def shuffles(labels: Tensor, classes: int, seed: int) -> list[Tensor]:
    """Targets that say nothing of the true ones, as many as there are classes.

    Each spreads the texts of a class evenly over all classes, its own included; over the lot a text has each
    class once, so that what one of them happens to teach another one takes back.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(labels.device)
    drawn = torch.empty_like(labels)
    for own in range(classes):
        texts = order[labels[order] == own]
        drawn[texts] = torch.arange(len(texts), device=labels.device) % classes
    return [(drawn + turn) % classes for turn in range(classes)]


def sequences(each: int, length: int, vocabulary: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Token ids (each · classes, length) and their classes, in turn: a class prefers tokens of its own, half
    of the time.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(each)
    own = torch.randperm(vocabulary, generator=generator)[: vocabulary // classes * classes].view(classes, -1)
    size = (len(labels), length)
    preferred = own[labels].gather(1, torch.randint(own.shape[1], size, generator=generator))
    anything = torch.randint(vocabulary, size, generator=generator)
    tokens = torch.where(torch.rand(size, generator=generator) < 0.5, preferred, anything)
    return tokens.to(device()), labels.to(device())
