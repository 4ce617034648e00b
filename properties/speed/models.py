"""A model of 24 × 7 layers, as a transformer has them, and what is attached to it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.speed.layers import Size, case_of
from strategies import gaussian

LAYERS, WIDTH, INNER, RANK = 24, 256, 512, 8
NAMES = ("q", "k", "v", "o", "gate", "up", "down")
# peft's config for a variant, with defaults but for these.
WITH_PEFT: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("LoraConfig", {}),
    "dora": ("LoraConfig", {"use_dora": True}),
    "pissa": ("LoraConfig", {"init_lora_weights": "pissa"}),
    "delora": ("DeloraConfig", {}),
    "hra": ("HRAConfig", {}),
}


@dataclass(frozen=True)
class Cost:
    """One figure. unit: "ms", "× reading" (of all weights once), "× floor" (that, and making the adapter's
    tensors), "× SVD", "GB/s", "B", "KiB".
    """

    variant: str
    implementation: str
    what: str
    value: float
    unit: str


class Block(nn.Module):
    """Seven linear layers, as a transformer's block has them."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.gate, self.up, self.down = (
            nn.Linear(WIDTH, INNER),
            nn.Linear(WIDTH, INNER),
            nn.Linear(INNER, WIDTH),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.layer_norm(x, (WIDTH,))
        x = x + self.o(self.q(x) + self.k(x) + self.v(x))
        return x + self.down(self.gate(x).relu() * self.up(x))  # type: ignore[no-any-return]


def model() -> nn.Module:
    """The same weights each time."""
    torch.manual_seed(0)
    return nn.Sequential(*(Block() for _ in range(LAYERS)))


def config_and_data(variant: str) -> tuple[ll.AdapterConfig, list[Tensor] | None]:
    """The variant's defaults, and calibration data where it cannot start without."""
    case = case_of(variant, Size(WIDTH, RANK, 1))
    data = (
        [gaussian(0, "calibration", (2 * INNER, WIDTH))] if ll.VARIANTS[variant].needs_calibration else None
    )
    options = {name: value for name, value in case.options if name != "dtype"}
    return ll.VARIANTS[variant].config_class(**options), data


def on_peft(variant: str, model: nn.Module) -> nn.Module:
    """peft's adapter of the same rank on every linear layer. Raises KeyError where it has none."""
    import peft

    kind, options = WITH_PEFT[variant]
    config = getattr(peft, kind)(r=RANK, target_modules=list(NAMES), **options)
    adapted: nn.Module = peft.inject_adapter_in_model(config, model)
    return adapted
