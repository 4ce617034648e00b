"""Full, arXiv:1810.04805. The method: help(ll.Full), its settings: help(ll.FullConfig)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora_lite.config import AdapterConfig
from lora_lite.deviation import Deviation
from lora_lite.linear import LinearShape, read_bias, read_weight
from lora_lite.norms import refuse_lost
from lora_lite.spec import ParamSpec, Variant, register
from lora_lite.variants import references


@dataclass(frozen=True, kw_only=True)
class FullConfig(AdapterConfig):
    """Settings of Full, arXiv:1810.04805, which help(ll.Full) describes.

    dtype = torch.float32   of the adapter's tensors and computation; or torch.bfloat16, float16, float64

    It has neither r nor alpha: anything but None is refused.
    target_names, exclude_names, target_roles and layers choose the layers: help(ll.AdapterConfig). Name the
    head, target_names=("classifier",) or as the model calls it: without names every linear layer is trained.
    Raises ConfigError, with the field's name, on a value out of its range. attach raises ConfigError on rows
    of a weight that are too small for dtype, BaseWeightError
    where the weight or the bias cannot be read as floating-point numbers, and TargetError on a layer whose
    forward computes something else than x Wᵀ + b.
    """

    variant: ClassVar[str] = "full"
    unused: ClassVar[tuple[str, ...]] = ("r", "alpha")
    r: None = None  # type: ignore[assignment]  # refused, see `unused`
    alpha: None = None  # type: ignore[assignment]  # refused, see `unused`


@register
class Full(Variant):
    """Full: a layer that trains whole, as the fresh classification head of
    BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding. Devlin et al. 2018,
    arXiv:1810.04805.

        y = x Wᵀ + b        W and b the adapter's own

    A trainable copy of the layer's weight and bias takes their place. What the base has there no longer
    counts: it is not in the base's fingerprint, and a file fits a base whose head was drawn anew. A quantised
    weight is copied dequantised.

    Tensors:
        W  (d_out, d_in)  trained  starts at the layer's weight
        b  (d_out,)       trained  starts at its bias; absent where it has none

    Reference: section 3 of the paper (all parameters are fine-tuned) and 4.1 (a new layer for the classes);
    peft's utils/other.py, modules_to_save.
    Identity at init: W and b are the layer's own, to rounding.
    First step: W and b learn.
    Deviations: the layer still computes, and what it gives is not used; its forward hooks run on the
    adapter's output. The bias of attention's keys, which no output depends on, does not move.
    """

    name = "full"
    config_class = FullConfig
    reference = references.FULL
    reads_weight = True
    replaces = True
    deviations = (
        Deviation(
            "training_on_minilm", "attention's softmax is the same whatever the keys' bias: nothing trains it"
        ),
    )
    laws: ClassVar = {
        "trains": ("W", "b"),
        "affine_in": ("W", "b"),
        "inputs": {"W": 1},
        "outputs": {"W": 0, "b": 0},
        "in_place_of_the_base": True,
        "starts": {"W": "weight", "b": "bias"},
    }

    W: Tensor
    b: Tensor

    @classmethod
    def specs(cls, shape: LinearShape, config: FullConfig) -> dict[str, ParamSpec]:
        weight = {"W": ParamSpec((shape.d_out, shape.d_in), first_gradient="nonzero")}
        return weight | ({"b": ParamSpec((shape.d_out,), first_gradient="nonzero")} if shape.bias else {})

    @classmethod
    def identity(cls, config: FullConfig) -> Literal["exact", "rounding"]:
        return "rounding"

    def initialise(self, layer: nn.Module, statistics: Any) -> None:
        W = read_weight(layer)
        refuse_lost(W.abs().amax(dim=1), self.W.dtype, "rows")
        self.W.copy_(W)
        if (bias := read_bias(layer)) is not None:
            self.b.copy_(bias)

    def adapt_output(self, x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
        # In the wider dtype of the two: neither the tokens nor the weight are rounded for the other.
        wide = torch.promote_types(self.W.dtype, x.dtype)
        bias = self.b.to(wide) if self.shape.bias else None
        return F.linear(x.to(wide), self.W.to(wide), bias)
