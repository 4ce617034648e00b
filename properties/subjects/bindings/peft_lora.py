"""peft's LoRA, its other starts, and AdaLoRA: tensors and settings as the oracles' symbols and options."""

from math import sqrt
from typing import Any

from properties.subjects.bindings.binding import Binding, Options, Symbols, called, inert


def of(**names: str) -> Symbols:
    """Tensors of the adapter "default", by the name before that; a star is where it stands in the middle."""
    full = {symbol: name if "*" in name else f"{name}.*" for symbol, name in names.items()}
    return called(**{symbol: name.replace("*", "default") for symbol, name in full.items()})


def _options(switch: str | None = None, **fixed: Any) -> Options:
    """switch: the setting that makes another method of it, and is bound by that."""

    def options(given: Any) -> dict[str, Any]:
        alpha = given.lora_alpha * (sqrt(given.r) if given.use_rslora else 1)
        thrown = {} if switch is None else {switch: getattr(given, switch)}
        return {"r": given.r, "alpha": alpha, **thrown, **fixed}

    return options


def _of_start(oracle: str, start: Any) -> Binding:
    return Binding(oracle, FACTORS, _options("init_lora_weights", start=start), inert=OTHERS)


def _adalora(given: Any) -> dict[str, Any]:
    # AdaLoRA takes LoRA's starts, and knows only its own.
    init = given.init_lora_weights is True
    return {"r": given.init_r, "alpha": given.lora_alpha, "offset": 1e-5, "init": init}


A, B = "lora_A.*.weight", "lora_B.*.weight"
FACTORS = of(A=A, B=B)
OTHERS = inert('"only implemented in GPTQ for now"', "use_qalora", "qalora_group_size")
STARTS = {
    "False": "random",
    **{start: start for start in ("gaussian", "olora", "orthogonal", "eva", "loftq")},
}
PRUNING = ("target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight")

BINDINGS: dict[str, Binding] = {
    "peft:lora": Binding("lora", FACTORS, _options(), inert=OTHERS),
    **{f"peft:lora+init_lora_weights={name}": _of_start("lora_starts", s) for name, s in STARTS.items()},
    "peft:lora+init_lora_weights=pissa": _of_start("pissa", "pissa"),
    "peft:lora+init_lora_weights=mica": _of_start("mica", "mica"),
    "peft:lora+lora_bias=True": Binding(
        "lora_bias", of(A=A, B=B, c="lora_B.*.bias"), _options("lora_bias"), inert=OTHERS
    ),
    "peft:lora+use_dora=True": Binding(
        "dora", of(A=A, B=B, m="lora_magnitude_vector.*.weight"), _options("use_dora"), inert=OTHERS
    ),
    "peft:adalora": Binding(
        "adalora",
        of(A="lora_A", B="lora_B", E="lora_E", r="ranknum"),
        _adalora,
        inert=OTHERS | inert("init_r stands for it", "r") | inert("of pruning, between steps", *PRUNING),
    ),
}
