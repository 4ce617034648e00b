"""Small models of transformers' architectures with random weights, as a config builds them: without a hub."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from strategies.tensors import device, gaussian

VOCABULARY, WIDTH = 17, 16
# Of a decoder: two layers and grouped-query attention.
DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}


def _ids(seed: int, *shape: int) -> Tensor:
    return (gaussian(seed, "tokens", shape).abs() * 1000).long() % VOCABULARY


def _text(seed: int) -> dict[str, Any]:
    return {"input_ids": _ids(seed, 2, 6), "use_cache": False}


def _pairs(seed: int) -> dict[str, Any]:
    return {"input_ids": _ids(seed, 2, 6), "decoder_input_ids": _ids(seed + 1, 2, 5), "use_cache": False}


def _image(seed: int) -> dict[str, Any]:
    return {"pixel_values": gaussian(seed, "pixels", (2, 3, 16, 16))}


def _speech(seed: int) -> dict[str, Any]:
    given = {"input_features": gaussian(seed, "features", (2, 8, 24)), "use_cache": False}
    return {**given, "decoder_input_ids": _ids(seed + 1, 2, 5)}


@dataclass(frozen=True)
class Architecture:
    """A model class of transformers, by the names of class and config, what the config gets, and an input."""

    model: str
    config: str
    settings: dict[str, Any]
    inputs: Callable[[int], dict[str, Any]]
    # Linear layers that no adapter goes on here: fresh heads.
    excluded: tuple[str, ...] = ()

    def build(self, seed: int = 0) -> nn.Module:
        """In eval mode and float32, with weights whose effect shows."""
        # Seconds to import, and only wanted here.
        import transformers

        config = getattr(transformers, self.config)(**self.settings, attn_implementation="eager")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: Any = getattr(transformers, self.model)(config)
        for name, parameter in model.named_parameters():
            # transformers draws weights with a standard deviation of 0.02, too small for anything to show.
            if parameter.ndim >= 2:
                values = gaussian(seed, name, tuple(parameter.shape)) / parameter.shape[-1] ** 0.5
                parameter.data.copy_(values)
        model.config._name_or_path = ""
        return model.to(dtype=torch.float32, device=device()).eval()  # type: ignore[no-any-return]

    def given(self, seed: int = 0) -> tuple[str, dict[str, Any]]:
        """Keyword arguments of the model, and which of them is what it reads."""
        held = self.inputs(seed)
        given = {name: v.to(device()) if isinstance(v, Tensor) else v for name, v in held.items()}
        return next(iter(given)), given


ARCHITECTURES: dict[str, Architecture] = {
    "BERT": Architecture(
        "BertForSequenceClassification",
        "BertConfig",
        {**DECODER, "num_labels": 3},
        lambda seed: {"input_ids": _ids(seed, 2, 6)},
        # The pooler sees one token of each text: too few for eva.
        excluded=("classifier", "pooler.dense"),
    ),
    "Qwen3": Architecture("Qwen3ForCausalLM", "Qwen3Config", {**DECODER, "head_dim": 6}, _text),
    "Llama, tied": Architecture(
        "LlamaForCausalLM", "LlamaConfig", {**DECODER, "tie_word_embeddings": True}, _text
    ),
    "T5": Architecture(
        "T5ForConditionalGeneration",
        "T5Config",
        {
            "vocab_size": VOCABULARY,
            "d_model": WIDTH,
            "d_kv": 4,
            "d_ff": 24,
            "num_layers": 2,
            "num_heads": 4,
            "feed_forward_proj": "gated-gelu",
            "decoder_start_token_id": 0,
        },
        _pairs,
    ),
    "GPT-2": Architecture(
        "GPT2LMHeadModel",
        "GPT2Config",
        {
            "vocab_size": VOCABULARY,
            "n_embd": WIDTH,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 32,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        _text,
    ),
    "ViT": Architecture(
        "ViTForImageClassification",
        "ViTConfig",
        {**DECODER, "image_size": 16, "patch_size": 8, "num_labels": 3},
        _image,
        excluded=("classifier",),
    ),
    "Whisper": Architecture(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        {
            "vocab_size": VOCABULARY,
            "num_mel_bins": 8,
            "d_model": WIDTH,
            "max_source_positions": 12,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "max_target_positions": 16,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
        _speech,
    ),
    "Mixtral": Architecture(
        "MixtralForCausalLM",
        "MixtralConfig",
        {**DECODER, "num_local_experts": 4, "experts_implementation": "eager"},
        _text,
    ),
}
