"""Faults of peft's LoRA that claims about dropout and about inits must notice, by the claim's name."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from properties.instruments.faults_of_any import Fault, attached, giving
from properties.subjects import peft_data


def _dropouts(life: Any) -> list[nn.Dropout]:
    return [module for module in life.model.modules() if isinstance(module, nn.Dropout)]


def in_eval_too(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    dropping = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    return F.dropout(y, 0.5) if dropping else y


def never(life: Any) -> None:
    for module in _dropouts(life):
        module.p = 0.0


def not_scaled_up(life: Any) -> None:
    for module in _dropouts(life):
        module.register_forward_hook(
            lambda m, args, y: args[0] * (torch.rand_like(y) > m.p) if m.training else y
        )


def blind(patch: pytest.MonkeyPatch) -> None:
    """What was found in the data is thrown away."""

    def attach(model: nn.Module, config: Any, *given: Any) -> Any:
        made = peft_data_attach(model, config, *given)
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if "lora_A" in name:
                    parameter.normal_()
        return made

    patch.setattr(peft_data, "attach", attach)


def weight_left(patch: pytest.MonkeyPatch) -> None:
    """The base is no longer what is left of it."""

    def attach(model: nn.Module, config: Any, *given: Any) -> Any:
        made = peft_data_attach(model, config, *given)
        with torch.no_grad():
            made.get_base_model()[0].base_layer.weight.mul_(1.01)
        return made

    patch.setattr(peft_data, "attach", attach)


def alike(life: Any) -> None:
    """Every layer starts with the same numbers."""
    first = life.layer(0).lora_A["default"].weight
    for i in range(1, life.case.depth):
        life.layer(i).lora_A["default"].weight.data.copy_(first)


peft_data_attach = peft_data.attach
DATA = {"an_init_from_data_keeps_its_laws", "an_init_from_data_changes_nothing"}
FAULTS: dict[str, Fault] = {
    "nothing_is_dropped_in_eval": giving(in_eval_too),
    "what_is_dropped_is_drawn_anew": attached(never),
    "dropout_is_on_the_adapters_branch_at_its_rate": attached(not_scaled_up),
    "what_is_random_is_drawn_for_each_layer_and_entry": attached(alike),
    "an_init_from_data_keeps_its_laws": blind,
    "an_init_from_data_changes_nothing": weight_left,
}
