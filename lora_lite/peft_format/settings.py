"""adapter_config.json: read without trust, and what of peft's settings is understood."""

import os
from typing import Any

from lora_lite.config import is_number
from lora_lite.errors import CheckpointError
from lora_lite.reading import parsed
from lora_lite.warned import warn
from lora_lite.writing import shown

CONFIG = "adapter_config.json"
# Bytes: a pattern for each of ten thousand layers takes two million.
LONGEST_CONFIG = 2**23

# Which layers, and what every config has that no computation depends on.
SELECTS = {*("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save")}
TELLS = {
    "peft_type",
    "task_type",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "peft_version",
}
# Act while peft trains, and not on what it gives afterwards.
DROPOUTS = {"lora_dropout", "module_dropout"}
# Why what is not understood is refused, where there is more to say.
WHY = {
    "bias": "it trains the biases of the base, which stays as it is here",
    "trainable_token_indices": "it brings rows of an embedding",
    "target_parameters": "it adapts a parameter that belongs to no linear layer",
    "lora_bias": "it adds a trained constant to the update",
    "layer_replication": "it builds another model than the base",
    "init_lora_weights": "peft writes another base weight for it at every load",
    "apply_GS": "it orthogonalises the reflections before it applies them",
}


class Settings(dict[str, Any]):
    """The content of an adapter_config.json, and the name that messages call it by."""

    def __init__(self, values: dict[str, Any], path: str) -> None:
        super().__init__(values)
        self.path = path

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number. Raises CheckpointError."""
        value: Any = self.get(name, default)
        if not is_number(value):
            raise self.damaged(name, "a finite number")
        return float(value)

    def damaged(self, name: str, wanted: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {name}: found {self.get(name)!r}, wanted {wanted}.")

    def refuse_unread(self, read: set[str]) -> None:
        """Raise CheckpointError where a setting that is not read is on: who wrote the file computes more."""
        for name, value in self.items():
            if name in DROPOUTS:
                if value:
                    warn(
                        f"{self.path}: {name}={value!r} is left out: the adapters here have no dropout, which"
                        " matters where they are trained on.",
                    )
            elif name not in read | SELECTS | TELLS and value and (name, value) != ("bias", "none"):
                why = WHY.get(name, "lora_lite does not know what it does")
                raise CheckpointError(
                    f"{self.path}: {name}={value!r}, wanted nothing: {why}. Merge with peft, or leave it out."
                )


def read_settings(folder: str) -> Settings:
    """Raises CheckpointError, and FileNotFoundError where there is no such folder or no config in it."""
    path = os.path.join(folder, CONFIG)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{shown(folder)}: no such folder, wanted one that has {CONFIG}.")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{shown(path)}: no such file, wanted the config that peft saves.")
    with open(path, "rb") as file:
        text = file.read(LONGEST_CONFIG + 1)
    if len(text) > LONGEST_CONFIG:
        raise CheckpointError(
            f"{shown(path)}: longer than {LONGEST_CONFIG} bytes, wanted an adapter's config."
        )
    try:
        values = parsed(text.decode())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{shown(path)}: no valid JSON: {error}.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{shown(path)}: found a {type(values).__name__}, wanted a JSON object.")
    return Settings(values, shown(path))
