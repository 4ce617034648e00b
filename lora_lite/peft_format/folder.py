"""A peft folder's tensors, and what a folder of ours says of itself."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from lora_lite.errors import CheckpointError
from lora_lite.fingerprint import WITH_BUFFERS, digest_of, digest_of_all
from lora_lite.peft_format.settings import CONFIG, TELLS
from lora_lite.reading import Tensors, opened_tensors, parsed
from lora_lite.writing import save_file, shown, write_atomically

TENSORS, PICKLE = "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."
# In the metadata of the tensors' file, which peft does not look at.
EXPORT = "lora_lite.export_peft"


@contextmanager
def opened_folder(folder: str) -> Iterator[tuple[dict[str, Any] | None, Tensors]]:
    """What an export of ours says of itself, None for any other folder; and its tensors while it is open."""
    path = os.path.join(folder, TENSORS)
    if not os.path.exists(path) and os.path.exists(os.path.join(folder, PICKLE)):
        raise CheckpointError(
            f"{shown(folder)}: found {PICKLE}, wanted {TENSORS}: a pickle can run any code, and is not"
            " opened. Where you trust it, have peft load it and save it again, as safetensors."
        )
    with opened_tensors(path, digest_of) as (metadata, tensors):
        text = metadata.get(EXPORT) if isinstance(metadata, dict) else None
        yield None if text is None else _parsed(shown(path), text), tensors


def _parsed(path: str, text: object) -> dict[str, Any]:
    try:
        export: Any = parsed(text) if isinstance(text, str) else None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its entry {EXPORT} is not valid JSON: {error}.") from error
    base = export.get("base") if isinstance(export, dict) else None
    if not isinstance(base, dict) or not all(isinstance(digest, str) for digest in base.values()):
        raise CheckpointError(f"{path}: damaged: its entry {EXPORT} has no digest by name of the base.")
    return {**export, "format": WITH_BUFFERS}


def refuse_another(
    path: str, export: Mapping[str, Any] | None, settings: Mapping[str, Any], digests: Mapping[str, str]
) -> None:
    """Raise CheckpointError where an export of ours, config and tensors together, is not what was written."""
    if export is None:
        return
    found = digest_of_all({"base": export["base"], "config": _computed(settings)}, digests)
    if found != export.get("digest"):
        raise CheckpointError(
            f"{path}: it and {CONFIG} are not what export_peft wrote together (digest {found}, the file says"
            f" {export.get('digest')}): damaged, or changed by hand. Export it again; what peft saves has no"
            " digest."
        )


def export_digest(base: Mapping[str, str], config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """One of the config, of the base's fingerprint and of every tensor."""
    own = {name: digest_of(tensor) for name, tensor in tensors.items()}
    return digest_of_all({"base": base, "config": _computed(config)}, own)


def _computed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that something depends on: another name or place of the base is no damage."""
    return {name: value for name, value in config.items() if name not in TELLS}


def write_folder(
    folder: str, config: Mapping[str, Any], base: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> None:
    """Both files, each whole or as before; the config is moved to its place right after the tensors."""
    export = {"base": base, "digest": export_digest(base, config, tensors)}
    metadata = {"format": "pt", EXPORT: json.dumps(export)}
    text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n"

    def write(beside: str) -> None:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
        # While the config lies ready beside its place: what cannot be written stops before either is moved.
        write_atomically(
            os.path.join(folder, TENSORS), lambda place: save_file(tensors, place, metadata=metadata)
        )

    os.makedirs(folder, exist_ok=True)
    write_atomically(os.path.join(folder, CONFIG), write)
