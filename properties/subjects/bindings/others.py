"""loralib, LitGPT, lora-pytorch: their tensors and settings as the oracles' symbols and options."""

from properties.subjects.bindings.binding import Binding, called

FACTORS = called(A="lora_A", B="lora_B")
LORA = Binding("lora", FACTORS, lambda given: {"r": given.r, "alpha": given.lora_alpha})
PARTS = Binding(
    "lora_parts",
    FACTORS,
    lambda given: {"r": given.r, "alpha": given.lora_alpha, "parts": given.enable_lora},
)

BINDINGS: dict[str, Binding] = {
    "loralib:lora": LORA,
    "loralib:merged_linear": PARTS,
    "litgpt:lora": LORA,
    "litgpt:lora_qkv": PARTS,
    "litgpt:adapter_v2": Binding("adapter_v2", called(scale="adapter_scale", shift="adapter_bias")),
    # Its scale is folded into the init.
    "lora_pytorch:lora": Binding(
        "lora",
        lambda tensors: {"A": tensors["in_proj"].mT, "B": tensors["out_proj"].mT},
        lambda given: {"r": given.rank, "alpha": given.rank, "lawful": False},
    ),
}
