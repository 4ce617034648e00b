"""As known_reasons.py, of mutants of peft's code."""

import ast
import importlib
import inspect
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from properties.instruments.known_reasons import place_of, reason
from properties.mutation import Mutant
from properties.mutation.mutant import named


@reason("of embeddings, which are not judged")
def _embeddings(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    for mutant in mutants:
        node = place_of(mutant).there[0]
        assert isinstance(node, ast.If)
        assert ast.unparse(node.test) == "isinstance(base_layer, nn.Embedding)"


@reason(
    "a size that divides is adjusted to itself",
    of="OFTLayer.update_layer: condition: self.in_features % oft_block_size",
)
def _adjusted(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    kind = named("peft.tuners.oft.layer:OFTLayer")
    for d_in, size in product(range(1, 65), repeat=2):
        if d_in % size == 0:
            assert kind.adjust_oft_parameters(None, d_in, size) == size


@reason(
    "no call asks it: findings/peft_oft_module_dropout",
    of="OFTLayer.update_layer: statement deleted: self.oft_dropout",
)
def _unasked(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    layer = of_peft("OFTConfig", oft_block_size=2, module_dropout=0.5).train()
    asked: list[Any] = []
    layer.oft_dropout["default"].register_forward_hook(lambda *seen: asked.append(seen))
    layer(torch.randn(3, 4))
    assert not asked


@reason(
    "of False alone, for which reset leaves a linear layer's A and B as they are",
    of="LoraLayer.update_layer: condition: if init_lora_weights",
)
def _reset(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    layer = of_peft("LoraConfig", init_lora_weights=False)
    before = [parameter.clone() for parameter in layer.parameters()]
    layer.reset_lora_parameters("default", False)
    assert all(map(torch.equal, layer.parameters(), before))


@reason(
    "whoever asks for it takes None where it is not there",
    of="LoraConfig.__post_init__: condition: if self.ensure_weight_ty",
)
def _asked_for(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    """By getattr, everywhere in peft."""
    peft, names = importlib.import_module("peft"), {"modules_to_tie", "target_modules_to_tie"}
    for path in Path(inspect.getfile(peft)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                assert node.attr not in names, path


@reason(
    "of a model without a device mesh both give nothing, and no other is judged",
    of="arguments swapped: get_tp_plan_and_mesh",
)
def _no_mesh(mutants: Sequence[Mutant], patch: pytest.MonkeyPatch) -> None:
    asked = vars(importlib.import_module("peft.tuners.lora.model"))["get_tp_plan_and_mesh"]
    model = nn.Sequential(nn.Linear(4, 4))
    assert asked(model, "0") == asked("0", model) == (None, None)


def of_peft(config: str, **settings: Any) -> Any:
    """A layer as peft wraps it."""
    peft = importlib.import_module("peft")
    model = nn.Sequential(nn.Linear(4, 4))
    return peft.get_peft_model(
        model, getattr(peft, config)(target_modules=["0"], **settings)
    ).base_model.model[0]
