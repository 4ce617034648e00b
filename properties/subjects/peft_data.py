"""peft's inits that look at data, EVA and CorDA, and LoftQ's, which looks at what few bits lose."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

METHODS = tuple(f"lora+init_lora_weights={start}" for start in ("eva", "corda", "loftq"))


class _OnTheCPU(TorchFunctionMode):
    """LoftQ's code sends numbers to "cuda", whatever there is; bitsandbytes has it all on the CPU too."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        there = [self._here(value) for value in args]
        return function(*there, **{name: self._here(value) for name, value in (kwargs or {}).items()})

    def _here(self, value: Any) -> Any:
        cuda = isinstance(value, str | torch.device) and str(value).startswith("cuda")
        return "cpu" if cuda else value


def given(start: str, seed: int) -> dict[str, Any]:
    """What its config wants beside that start."""
    return {"loftq_config": {"loftq_bits": (4, 8)[seed % 2], "loftq_iter": 1}} if start == "loftq" else {}


def attach(model: nn.Module, config: Any, batches: list[Tensor], seed: int) -> Any:
    """A PeftModel whose adapter has looked at the batches, as peft's documentation does it."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if config.init_lora_weights == "corda":
            _look(model, config, batches, seed)
            return get_peft_model(model, config)
        if config.init_lora_weights == "loftq":
            with _nearby():
                return get_peft_model(model, config)
        return _eva(model, config, batches)


def _nearby() -> AbstractContextManager[Any]:
    return nullcontext() if torch.cuda.is_available() else _OnTheCPU()


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
