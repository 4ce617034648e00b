"""Faults of peft's LoRA that the claims about formulas and settings must notice, by the name of the claim."""

from dataclasses import replace

import pytest
from torch import Tensor, nn

from properties.instruments.faults_of_any import (
    Fault,
    after,
    attached,
    giving,
    halved_scale,
    instead,
    moved,
    trained,
)
from properties.subjects.library import LibraryCase, Life
from properties.subjects.peft import Peft


def slopes(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The same output, with a gradient of one more in every entry."""
    return y + sum((p - p.detach()).sum() for n, p in model.named_parameters() if p.requires_grad)


def of_the_input_too(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Beside the update, as no factor of zero takes away."""
    return y + 0.1 * x.sum(-1, keepdim=True)


def alpha_is_ignored(patch: pytest.MonkeyPatch) -> None:
    attach = Peft.attach

    def ignoring(self: Peft, model: nn.Module, case: LibraryCase) -> Life:
        left = tuple((name, value) for name, value in case.settings if name != "lora_alpha")
        return attach(self, model, replace(case, settings=left))

    patch.setattr(Peft, "attach", ignoring)


FAULTS: dict[str, Fault] = {
    "every_setting_matters": alpha_is_ignored,
    "the_output_is_the_formulas": attached(halved_scale),
    "the_gradient_of_the_input_is_the_formulas": giving(lambda model, x, y: y + (x - x.detach()).sum()),
    "gradients_of_the_tensors_are_the_formulas": giving(slopes),
    "the_layer_keeps_the_laws_of_the_formula": giving(of_the_input_too),
    "init_keeps_the_laws_of_the_formula": attached(trained),
    "the_merged_weight_is_the_formulas": instead("merge", after(moved)),
}
