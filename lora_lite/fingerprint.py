"""What a base is told by in a file: each of its tensors by dtype, shape and a digest of every bit."""

import ctypes
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lora_lite.base import base_parameters
from lora_lite.errors import BaseMismatchError, BaseWeightError
from lora_lite.linear import quantisation_scales
from lora_lite.parallel import gathered


def fingerprint(model: nn.Module) -> dict[str, str]:
    """Every base parameter's dtype and shape, and a digest of every bit. Adapters and buffers do not count.

    Raises BaseWeightError on the meta device, where there are no bits.
    """
    for name, parameter in base_parameters(model):
        if parameter.is_meta:
            raise BaseWeightError(
                f"{name}: found on the meta device, wanted numbers. Give the model its weights first."
            )
    return {
        name: _described(gathered(p.detach()), *_scales(model, name)) for name, p in base_parameters(model)
    }


def _described(tensor: Tensor, *scales: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)} {digest_of(tensor, *scales)}"


def digest_of_all(header: Mapping[str, Any], tensors: Mapping[str, str]) -> str:
    """One digest of a header, its own digest aside, and of the digests of the file's tensors by name."""
    own = {name: value for name, value in header.items() if name != "digest"}
    # 64 bits, here and for tensors: enough to notice damage or another base. It is no signature.
    return hashlib.sha256(json.dumps([own, tensors], sort_keys=True).encode()).hexdigest()[:16]


def _scales(model: nn.Module, name: str) -> tuple[Tensor, ...]:
    owner, _, last = name.rpartition(".")
    return quantisation_scales(model.get_submodule(owner)) if last == "weight" else ()


def digest_of(tensor: Tensor, *scales: Tensor) -> str:
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    for scale in scales:
        digest.update(digest_of(scale).encode())
    if hasattr(tensor, "__tensor_flatten__"):
        # A tensor subclass, as torchao's quantised weights are: the numbers lie in its inner tensors.
        inner, _ = tensor.__tensor_flatten__()
        for name in inner:
            digest.update(digest_of(getattr(tensor, name)).encode())
        return digest.hexdigest()[:16]
    data = tensor.cpu().contiguous()
    size = data.numel() * data.element_size()
    # Straight from memory: numpy knows no bfloat16 and is no dependency.
    digest.update((ctypes.c_char * size).from_address(data.data_ptr()) if size else b"")
    return digest.hexdigest()[:16]


def check_same_base(path: object, model: nn.Module, wanted: Mapping[str, str]) -> None:
    found = fingerprint(model)
    if found == wanted:
        return
    lines = [f"{path} was made for another base."]
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        if found.get(name) != wanted.get(name):
            here, there = (side.get(name, "no such parameter") for side in (found, wanted))
            lines.append(f"  {name}: found {here}, the file says {there}.")
    # Another base differs everywhere; five parameters show it.
    if len(lines) > 6:
        lines[6:] = [f"  … {len(lines) - 6} more of {len(wanted)} parameters."]
    lines.append(
        "Load it onto the checkpoint it was trained on, or pass check_base=False if you know that they"
        " compute the same."
    )
    raise BaseMismatchError("\n".join(lines))
