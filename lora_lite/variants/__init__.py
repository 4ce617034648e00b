"""The ten variants, one module each. Importing this package registers them."""

from lora_lite.variants.antipasto import AntiPaSTO, AntiPaSTOConfig
from lora_lite.variants.delora import DeLoRA, DeLoRAConfig
from lora_lite.variants.dora import DoRA, DoRAConfig
from lora_lite.variants.eva import EVA, EVAConfig
from lora_lite.variants.full import Full, FullConfig
from lora_lite.variants.hra import HRA, HRAConfig
from lora_lite.variants.ia3 import IA3, IA3Config
from lora_lite.variants.ia3_ff import IA3FF, IA3FFConfig
from lora_lite.variants.lora import LoRA, LoRAConfig
from lora_lite.variants.pissa import PiSSA, PiSSAConfig

__all__ = [
    "EVA",
    "HRA",
    "IA3",
    "IA3FF",
    "AntiPaSTO",
    "AntiPaSTOConfig",
    "DeLoRA",
    "DeLoRAConfig",
    "DoRA",
    "DoRAConfig",
    "EVAConfig",
    "Full",
    "FullConfig",
    "HRAConfig",
    "IA3Config",
    "IA3FFConfig",
    "LoRA",
    "LoRAConfig",
    "PiSSA",
    "PiSSAConfig",
]
