"""The models that the probe trains on, each with its task: to which class does this text belong?"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from properties.probe.data import sentences, sequences
from properties.subjects.pretrained import encoder
from strategies import Qwen3Recipe
from strategies.tensors import device

# Texts of each class: to train on (a multiple of the classes, as data.shuffles wants), to be judged by, for
# the head and the calibration.
TRAIN, HELD_OUT, HEAD = 8, 4, 6
LONGEST = 10
ADAPTED_BLOCKS = 2
# A real block has all that two have, and of a hundred random steps each costs half.
REAL_BLOCKS = 1
# Of the head's cosines: less sure than it could be, so that a run on targets that say nothing costs it what
# confidence it has.
SHARPNESS = 1.0


class UnknownModelError(ValueError):
    """No such checkpoint at hand, or one that the probe cannot run."""


@dataclass(eq=False)
class Bench:
    """A model in eval mode that nobody changes, the blocks to adapt, and texts with classes to tell apart.

    inputs    keyword arguments of the model, (texts, tokens) each
    labels    (texts,), the classes in turn
    adapted   how many of the last blocks carry adapters
    blocks    the name of the list of blocks; those in `layers` are adapted
    training, held_out, head: disjoint slices of the texts; the frozen head was made from the last, which
    calibrate too
    """

    name: str
    base: nn.Module
    inputs: dict[str, Tensor]
    labels: Tensor
    adapted: int = ADAPTED_BLOCKS
    blocks: str = field(init=False)
    layers: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        texts, classes = len(self.labels), int(self.labels.max()) + 1
        ends = [texts * part // (TRAIN + HELD_OUT + HEAD) for part in (TRAIN, TRAIN + HELD_OUT)]
        self.training, self.held_out, self.head = slice(ends[0]), slice(*ends), slice(ends[1], texts)
        self.read = slice(ends[1])
        config: Any = self.base.config
        depth = config.get_text_config().num_hidden_layers
        named = [n for n, m in self.base.named_modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
        if not named:
            raise UnknownModelError(
                f"{self.name}: no list of {depth} blocks found in {type(self.base).__name__}."
            )
        self.blocks = named[0]
        self.layers = tuple(range(max(0, depth - self.adapted), depth))
        self._below: list[Any] = []
        with torch.no_grad():
            # The blocks below the adapted ones always give the same: run once.
            self._below = self._outputs()[: self.layers[0]]
            features = self.features(self.base, self.head)
        self.mean = features.mean(0)
        own = F.one_hot(self.labels[self.head], classes).to(features)
        self.prototypes = F.normalize(own.mT @ F.normalize(features - self.mean, dim=-1), dim=-1)

    def calibration(self) -> list[dict[str, Tensor]]:
        """Two batches of unequal size."""
        texts = [{name: tensor[self.head] for name, tensor in self.inputs.items()}]
        cut = len(self.labels[self.head]) // 3
        return [
            {n: t[part] for n, t in batch.items()}
            for batch in texts
            for part in (slice(cut), slice(cut, None))
        ]

    def _outputs(self) -> list[Any]:
        """What each block gives."""
        caught: list[Any] = []
        blocks = self.base.get_submodule(self.blocks).children()
        hooks = [block.register_forward_hook(lambda block, args, y: caught.append(y)) for block in blocks]
        try:
            self.run(self.base)
        finally:
            for hook in hooks:
                hook.remove()
        return caught

    def run(self, model: nn.Module, texts: slice = slice(None)) -> Tensor:
        """last_hidden_state (texts, tokens, width), all blocks run."""
        inner: Any = getattr(model, "base_model", model)
        inputs = {name: tensor[texts] for name, tensor in self.inputs.items()}
        return inner(**inputs).last_hidden_state  # type: ignore[no-any-return]

    def features(self, model: nn.Module, texts: slice = slice(None)) -> Tensor:
        """The mean over each text's tokens (texts, width)."""
        with self._recorded(model, texts):
            hidden = self.run(model, texts)
        mask = self.inputs["attention_mask"][texts, :, None].to(hidden)
        return (hidden * mask).sum(1) / mask.sum(1)

    @contextmanager
    def _recorded(self, model: nn.Module, texts: slice) -> Iterator[None]:
        """Blocks that no adapter is on give what they gave, in the model's dtype."""
        blocks = list(model.get_submodule(self.blocks).children())[: len(self._below)]
        dtype = next(model.parameters()).dtype
        for block, given in zip(blocks, self._below, strict=True):
            part = tree_map_only(Tensor, lambda tensor: tensor[texts].to(dtype), given)
            block.__dict__["forward"] = lambda *args, _part=part, **kwargs: _part
        try:
            yield
        finally:
            for block in blocks:
                del block.__dict__["forward"]

    def losses(self, model: nn.Module, texts: slice, labels: Tensor | None = None) -> Tensor:
        """Cross-entropy of each text (texts,) under the frozen head: cosines to each class's mean in the
        base's features.
        """
        features = F.normalize(self.features(model, texts) - self.mean, dim=-1)
        wanted = self.labels[texts] if labels is None else labels
        cosines = features @ self.prototypes.to(features).mT
        return F.cross_entropy(SHARPNESS * cosines, wanted, reduction="none")


@lru_cache(maxsize=2)
def bench(name: str, seed: int = 0) -> Bench:
    """ "tiny-qwen3", "minilm", or any transformers checkpoint at hand, by path or cached name.

    Raises UnknownModelError.
    """
    if name == "tiny-qwen3":
        return tiny_qwen3(seed)
    if name == "minilm":
        return reader(name, *encoder(), seed=seed)
    return reader(name, *checkpoint(name), seed=seed)


def tiny_qwen3(seed: int) -> Bench:
    """Two blocks of width 32 with random weights; sequences of four kinds."""
    recipe = Qwen3Recipe(layers=2, width=32, inner=48, heads=4, kv_heads=2, tied=True, seed=seed)
    tokens, labels = sequences(4 * (TRAIN + HELD_OUT + HEAD), 10, recipe.VOCABULARY, 4, seed)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    return Bench("tiny-qwen3", recipe.build(), inputs, labels)


def reader(name: str, model: nn.Module, tokenizer: Any, seed: int) -> Bench:
    """A model with a tokenizer; the sentences of the standard library's documentation."""
    texts, labels = sentences(TRAIN + HELD_OUT + HEAD, seed)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=LONGEST)
    inputs = {name: tensor.to(device()) for name, tensor in batch.items()}
    return Bench(name, model, inputs, torch.tensor(labels, device=device()), REAL_BLOCKS)


def checkpoint(name: str) -> tuple[nn.Module, Any]:
    """A checkpoint in float32 and eval mode, and its tokenizer, without any download.

    Raises UnknownModelError.
    """
    # Seconds to import, and only wanted here.
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(name, local_files_only=True)
        causal = any(architecture.endswith("ForCausalLM") for architecture in config.architectures or ())
        kind: Any = AutoModelForCausalLM if causal else AutoModel
        model = kind.from_pretrained(
            name, local_files_only=True, dtype=torch.float32, attn_implementation="eager"
        )
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UnknownModelError(
            f"{name}: no checkpoint that transformers can load from here ({str(error).splitlines()[0]}) "
            "Give a folder with its config, weights and tokenizer, a name in the cache, tiny-qwen3 or minilm."
        ) from error
    return model.to(device()).eval(), tokenizer
