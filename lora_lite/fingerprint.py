"""What a base is told by in a file: each of its tensors by dtype, shape and a digest of every bit."""

import ctypes
import hashlib
import io
import json
import pickle
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from lora_lite.errors import BaseMismatchError, BaseWeightError
from lora_lite.linear import is_linear, quantisation_scales
from lora_lite.names import base_buffers, base_modules, base_parameters, plain_modules
from lora_lite.parallel import gathered
from lora_lite.warned import warn

# The first format whose fingerprints have buffers and extra state in them.
WITH_BUFFERS = 3
EXTRA = "_extra_state"  # as a state dict calls it


def fingerprint(
    model: nn.Module, *, without: Collection[str] = (), parameters_only: bool = False
) -> dict[str, str]:
    """Every base tensor's dtype and shape, and a digest of every bit: parameters, persistent buffers and what
    modules keep as extra state. Adapters do not count, nor do buffers that no state dict has.

    without: layers that an adapter replaces.
    parameters_only: as the format before 3 had it. Raises BaseWeightError on the meta device, where there are
    no bits.
    """
    parameters = dict(base_parameters(model, without))
    buffers = {} if parameters_only else dict(base_buffers(model, without))
    for name, tensor in (parameters | buffers).items():
        if tensor.is_meta:
            raise BaseWeightError(
                f"{name}: found on the meta device, wanted numbers. Give the model its weights first."
            )
    modules = dict(plain_modules(model))
    told = {name: _described(gathered(p.detach()), *_scales(modules, name)) for name, p in parameters.items()}
    told |= {name: _described(gathered(buffer)) for name, buffer in buffers.items()}
    return told if parameters_only else told | _extra_states(model, without)


def _extra_states(model: nn.Module, without: Collection[str]) -> dict[str, str]:
    """What modules put into a state dict besides tensors, as some quantised layers do."""
    states = {
        f"{name}.{EXTRA}" if name else EXTRA: module.get_extra_state()
        for name, module in base_modules(model, without)
        if type(module).get_extra_state is not nn.Module.get_extra_state
    }
    return {name: f"extra state {_digest_of_any(state)}" for name, state in states.items()}


def _digest_of_any(state: Any) -> str:
    """Of nested lists and dicts of tensors and whatever else has a repr of its own, or can be pickled."""
    if isinstance(state, Tensor):
        return _described(gathered(state.detach()))
    if isinstance(state, dict):
        inner: Any = {repr(key): _digest_of_any(value) for key, value in state.items()}
    elif isinstance(state, list | tuple):
        inner = [_digest_of_any(value) for value in state]
    elif isinstance(state, io.BytesIO):
        inner = state.getvalue().hex()
    else:
        # A repr with an address in it is another one in every process.
        own = getattr(type(state), "__repr__", None) is not object.__repr__
        inner = repr(state) if own else pickle.dumps(state).hex()
    return hashlib.sha256(f"{type(state).__name__} {json.dumps(inner)}".encode()).hexdigest()[:16]


def _described(tensor: Tensor, *scales: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)} {digest_of(tensor, *scales)}"


def digest_of_all(header: Mapping[str, Any], tensors: Mapping[str, str]) -> str:
    """One digest of a header, its own digest aside, and of the digests of the file's tensors by name."""
    own = {name: value for name, value in header.items() if name != "digest"}
    # 64 bits, here and for tensors: enough to notice damage or another base. It is no signature.
    return hashlib.sha256(json.dumps([own, tensors], sort_keys=True).encode()).hexdigest()[:16]


def _scales(modules: Mapping[str, nn.Module], name: str) -> tuple[Tensor, ...]:
    owner, _, last = name.rpartition(".")
    return quantisation_scales(modules[owner]) if last == "weight" else ()


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


def check_same_base(
    path: object, model: nn.Module, header: Mapping[str, Any], without: Collection[str] = ()
) -> None:
    """Raise BaseMismatchError where the model is not the base that the file was made for, but for the layers
    `without`.
    """
    wanted: Mapping[str, str] = header["base"]
    old = header["format"] < WITH_BUFFERS
    found = fingerprint(model, without=without, parameters_only=old)
    if old and (unchecked := [name for name, _ in base_buffers(model)]):
        warn(
            f"{path}: format {header['format']} tells nothing of the base's buffers, {len(unchecked)} here"
            f" ({', '.join(unchecked[:5])}): they were not compared. Save it again to have them compared.",
        )
    if found == wanted:
        return
    names = [*wanted, *(name for name in found if name not in wanted)]
    differ = [name for name in names if found.get(name) != wanted.get(name)]
    lines = [f"{path} was made for another base."]
    for name in differ:
        here, there = (side.get(name, "no such parameter") for side in (found, wanted))
        lines.append(f"  {name}: found {here}, the file says {there}.")
    # Another base differs everywhere; five parameters show it.
    if len(lines) > 6:
        lines[6:] = [f"  … {len(lines) - 6} more of {len(wanted)} parameters."]
    targets = {target for entry in header.get("adapters", ()) for target in entry["targets"]}
    lines += _suspected(model, differ, targets.difference(without))
    lines.append(
        "Load it onto the checkpoint it was trained on, or pass check_base=False if you know that they"
        " compute the same."
    )
    raise BaseMismatchError("\n".join(lines))


def _suspected(model: nn.Module, differ: Iterable[str], targets: Collection[str]) -> list[str]:
    """What may have happened, where all that differs are the adapter's own layers, or one linear layer."""
    owners = tuple(dict.fromkeys(name.rpartition(".")[0] for name in differ))
    modules = dict(plain_modules(model))
    lines = []
    if len(owners) == 1 and "" != owners[0] in modules and is_linear(modules[owners[0]]):
        lines.append(
            f"If {owners[0]} is a head that is drawn anew each time, train it along, so that the file has it:"
            f" attach(model, FullConfig(target_names={owners})), and leave it out of the other adapter."
        )
    if set(owners) == set(targets):
        lines.append("These are the layers of the adapter: it may have been merged into this base already.")
    return lines
