"""peft's inits that look at data: EVA and CorDA. LoftQ's needs an accelerator."""

import warnings
from typing import Any

from torch import Tensor, nn

METHODS = ("lora+init_lora_weights=eva", "lora+init_lora_weights=corda")


def attach(model: nn.Module, config: Any, batches: list[Tensor], seed: int) -> Any:
    """A PeftModel whose adapter has looked at the batches, as peft's documentation does it."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if config.init_lora_weights == "corda":
            _look(model, config, batches, seed)
            return get_peft_model(model, config)
        return _eva(model, config, batches)


def _look(model: nn.Module, config: Any, batches: list[Tensor], seed: int) -> None:
    from peft.tuners.lora.config import CordaConfig
    from peft.tuners.lora.corda import preprocess_corda

    config.corda_config = CordaConfig(corda_method=("ipm", "kpm")[seed % 2])

    def run() -> None:
        for batch in batches:
            model(batch)

    preprocess_corda(model, config, run_model=run)


def _eva(model: nn.Module, config: Any, batches: list[Tensor]) -> Any:
    from peft import EvaConfig, get_peft_model, initialize_lora_eva_weights

    config.eva_config = EvaConfig(rho=1.0)
    made = get_peft_model(model, config)
    initialize_lora_eva_weights(
        made,
        batches,
        forward_fn=lambda called, batch: called(batch),
        prepare_model_inputs_fn=None,
        prepare_layer_inputs_fn=None,
        show_progress_bar=False,
    )
    return made
