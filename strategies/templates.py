"""Models of transformers as their configs make them: to be copied and given numbers, and never changed."""

from functools import lru_cache
from typing import Any

import torch


@lru_cache(maxsize=128)
def qwen3(**config: Any) -> Any:
    """Of such a config. What transformers draws for weights takes longer than a copy, and nobody keeps it."""
    # Seconds to import, and only wanted here.
    from transformers import Qwen3Config, Qwen3ForCausalLM

    with torch.random.fork_rng(devices=[]):
        return Qwen3ForCausalLM(Qwen3Config(**config))
