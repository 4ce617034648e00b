"""Which tensor of a library is which symbol of an oracle, and which setting is which."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from torch import Tensor

from properties.subjects.library import Life

Named = Mapping[str, Tensor]


@dataclass(frozen=True)
class Binding:
    """oracle: its name. symbols: from the layer's trained tensors, by their names there. options: its own."""

    oracle: str
    symbols: Callable[[Named], dict[str, Tensor]]
    options: Callable[[Life], dict[str, Any]]


def _called(**names: str) -> Callable[[Named], dict[str, Tensor]]:
    return lambda tensors: {symbol: tensors[name] for symbol, name in names.items()}


def _config(life: Any) -> Any:
    return life.model.peft_config["default"]


def _of_peft(life: Life) -> dict[str, Any]:
    config = _config(life)
    alpha = config.lora_alpha * (sqrt(config.r) if config.use_rslora else 1)
    return {"r": config.r, "alpha": alpha}


def _of_settings(life: Any) -> dict[str, Any]:
    given = dict(life.case.settings)
    return {"r": given["r"], "alpha": given["lora_alpha"]}


def _of_lycoris(life: Any) -> dict[str, Any]:
    given = {"lora_dim": 4, "alpha": 1, **dict(life.case.settings)}
    return {"r": given["lora_dim"], "alpha": given["alpha"]}


PEFT_LORA = {"A": "lora_A.default.weight", "B": "lora_B.default.weight"}
# An init that writes into the base is a LoRA on what it wrote.
SAME = (
    *("use_rslora=True", "init_lora_weights=False", "init_lora_weights=gaussian", "init_lora_weights=eva"),
    *("init_lora_weights=olora", "init_lora_weights=pissa", "init_lora_weights=orthogonal"),
)
LORA = Binding("lora", _called(**PEFT_LORA), _of_peft)

BINDINGS: dict[str, Binding] = {
    "peft:lora": LORA,
    **{f"peft:lora+{setting}": LORA for setting in SAME},
    "peft:lora+use_dora=True": Binding(
        "dora", _called(**PEFT_LORA, m="lora_magnitude_vector.default.weight"), _of_peft
    ),
    "peft:delora": Binding(
        "delora",
        _called(A="delora_A.default", B="delora_B.default", lambda_="delora_lambda.default"),
        lambda life: {"r": _config(life).r, "init": "zero_b"},
    ),
    # peft's reflections are columns, the oracle's rows.
    "peft:hra": Binding("hra", lambda tensors: {"U": tensors["hra_u.default"].mT}, lambda life: {}),
    # peft holds the gate, the oracle its offset from 1.
    "peft:ia3": Binding("ia3", lambda t: {"offset": t["ia3_l.default"].flatten() - 1}, lambda life: {}),
    "loralib:lora": Binding("lora", _called(A="lora_A", B="lora_B"), _of_settings),
    "litgpt:lora": Binding("lora", _called(A="lora_A", B="lora_B"), _of_settings),
    "lycoris:lora": Binding("lora", _called(A="lora_down.weight", B="lora_up.weight"), _of_lycoris),
    # Its scale is folded into the init.
    "lora_pytorch:lora": Binding(
        "lora",
        lambda tensors: {"A": tensors["in_proj"].mT, "B": tensors["out_proj"].mT},
        lambda life: {"r": 1, "alpha": 1},
    ),
}
