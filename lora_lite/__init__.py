"""lora-lite: nine LoRA-family adapters and full heads as small, plain PyTorch modules.

    import lora_lite as ll
    adapter = ll.attach(model, ll.LoRAConfig(r=8, alpha=16))
    ...train adapter.parameters()...
    ll.save(model, "adapter.safetensors")

help(ll.LoRA) and the like describe a method, help(ll.LoRAConfig) its settings, help(ll.AdapterConfig) those
of all; help(ll.attach), ll.save, ll.load, ll.merge, ll.detach what is done with them; help(ll.Variant) a
variant of your own.
"""

from lora_lite import variants
from lora_lite.adapter import attach, detach, disabled
from lora_lite.checkpoint import load, save
from lora_lite.config import AdapterConfig, option
from lora_lite.deviation import Deviation
from lora_lite.errors import (
    BaseMismatchError,
    BaseWeightError,
    CalibrationError,
    CheckpointError,
    ConfigError,
    LoraLiteError,
    NotAttachedError,
    TargetError,
)
from lora_lite.handle import Adapter, adapters_of
from lora_lite.linear import LinearShape
from lora_lite.merging import merge
from lora_lite.peft_format.exporting import export_peft
from lora_lite.peft_format.importing import import_peft
from lora_lite.reference import Reference, SourceFile
from lora_lite.spec import VARIANTS, Calibrator, ParamSpec, Variant, register
from lora_lite.variants import *  # noqa: F403  # the configs and variants, listed there

__all__ = [
    "VARIANTS",
    "Adapter",
    "AdapterConfig",
    "BaseMismatchError",
    "BaseWeightError",
    "CalibrationError",
    "Calibrator",
    "CheckpointError",
    "ConfigError",
    "Deviation",
    "LinearShape",
    "LoraLiteError",
    "NotAttachedError",
    "ParamSpec",
    "Reference",
    "SourceFile",
    "TargetError",
    "Variant",
    "adapters_of",
    "attach",
    "detach",
    "disabled",
    "export_peft",
    "import_peft",
    "load",
    "merge",
    "option",
    "register",
    "save",
    *variants.__all__,
]
