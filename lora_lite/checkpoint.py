"""save and load: one safetensors file, its header holding the configs, a fingerprint of the base and a digest
of it all.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lora_lite.adapter import install
from lora_lite.atomic import gradients_as_before
from lora_lite.base import attachable, refuse_absent, refuse_non_finite_base
from lora_lite.config import AdapterConfig, refuse_dtype
from lora_lite.errors import CheckpointError, naming
from lora_lite.fingerprint import check_same_base, digest_of, digest_of_all, fingerprint
from lora_lite.handle import Adapter, attached, unwrapped
from lora_lite.linear import all_finite, is_linear
from lora_lite.names import base_parameters, plain_modules
from lora_lite.parallel import gathered, refuse_disagreement, shard, write_once
from lora_lite.reading import FORMAT, HEADER, opened
from lora_lite.rebuilding import rebuild
from lora_lite.sketches import changed, sketch_for
from lora_lite.spec import VARIANTS, Variant
from lora_lite.warned import warn
from lora_lite.writing import plain_path, save_file, shown, write_atomically


@gradients_as_before
def save(model: nn.Module, path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None:
    """Write every adapter on `model` to one safetensors file; nothing of the base but a fingerprint.

    Atomic: the file is written beside its place and moved there, so that a crash leaves the old file whole
    and a reader sees the old one or the new one. Mode, owner and group of the old one stay, and so does a
    symbolic link; another hard link keeps the old content. Half-made files of processes that died are
    cleared by the next save to the same place. Stop training meanwhile: an adapter that changes is refused.
    A model that fully_shard has split over processes is gathered: call save in all of them, the first one
    writes.

    Raises NotAttachedError, TargetError where those processes hold different adapters, ConfigError where the
    adapter was cast to a dtype that load would refuse, CheckpointError where a part of it was cast, holds
    NaN or Inf or changed meanwhile, BaseWeightError on a base without numbers, and OSError where the place
    cannot be written.
    """
    place = plain_path(path)
    model = unwrapped(model)
    entries, replaced = [], list[str]()
    live: dict[str, Tensor] = {}
    for adapter in attached(model):
        layers = adapter.layers()
        refuse_pieces(dict(plain_modules(model)), layers)
        held = {target: layer.state_dict(keep_vars=True) for target, layer in layers.items()}
        for target, tensors in held.items():
            live |= {f"{target}.{name}": tensor for name, tensor in tensors.items()}
        replaced += [target for target, layer in layers.items() if layer.replaces]
        # The user may have cast the model since attach: what counts is what the tensors are.
        entries.append(_entry(replace(adapter.config, dtype=_dtype(held)), layers))
    # Collective: every process of a split model has to come by here and below, whichever of them writes.
    # Copies: what is digested, what is compared and what is written are the same numbers.
    whole = {name: copied(gathered(tensor.detach())) for name, tensor in live.items()}
    header = dict[str, Any](format=FORMAT, adapters=entries, base=fingerprint(model, without=replaced))
    refuse_non_finite(whole)
    _warn_of_thawed(model, replaced)
    header["digest"] = digest_of_all(header, {name: digest_of(tensor) for name, tensor in whole.items()})
    if (part := shard(model)) is None:
        # To refuse in one of several processes would leave the others waiting.
        refuse_change(whole, live)
    refuse_disagreement(part, header["digest"])
    _write(place, whole, header, part)


def _entry(config: AdapterConfig, layers: Mapping[str, Variant]) -> dict[str, Any]:
    """What the header says of one adapter."""
    ranks = {target: {"r": layer.config.r, "alpha": layer.config.alpha} for target, layer in layers.items()}
    return {"variant": config.variant, "config": config.to_json(), "targets": ranks}


def _write(place: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any], part: Any) -> None:
    metadata = {HEADER: json.dumps(header, allow_nan=False)}
    write_once(
        part, lambda: write_atomically(place, lambda beside: save_file(tensors, beside, metadata=metadata))
    )


def refuse_pieces(modules: Mapping[str, nn.Module], layers: Mapping[str, Variant]) -> None:
    """Raise where an engine has put pieces in the place of an adapter's tensors or of the weight under them;
    warn where that weight is another than at attach.
    """
    for target, module in layers.items():
        for name, spec in module.specs(module.shape, module.config).items():
            tensor = getattr(module, name, None)
            shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else None
            if shape != spec.shape:
                raise CheckpointError(
                    f"{target}: tensor {name} has shape {shape}, wanted {spec.shape}: an engine has split or"
                    " flattened it (ZeRO stage 3, FullyShardedDataParallel). Save inside of its own context"
                    " that gathers the parameters. Nothing was written."
                )
        with naming(target):
            refuse_absent(modules[target])
        if (how := changed(modules[target], module, thoroughly=True)) is not None:
            warn(
                f"{target}: its weight is another than at attach or load, {how}, and {module.name} started"
                " from that. Save is done; the adapter belongs to the base that is gone.",
            )


def _warn_of_thawed(model: nn.Module, replaced: list[str]) -> None:
    """What the user trains beside the adapters is in no file."""
    thawed = [name for name, parameter in base_parameters(model, replaced) if parameter.requires_grad]
    if not thawed:
        return
    modules = dict(plain_modules(model))
    owners = dict.fromkeys(name.rpartition(".")[0] for name in thawed)
    linear = tuple(name for name in owners if name in modules and is_linear(modules[name]))
    remedy = f" To train linear layers and save them: attach(model, FullConfig(target_names={linear}))."
    found = f"{', '.join(thawed[:5])}: {len(thawed)} parameters of the base require gradients"
    warn(
        f"{found}, and the file has none of them. Save is done; the adapter fits the base as they have made"
        f" it.{remedy * bool(linear)}",
    )


def copied(tensor: Tensor) -> Tensor:
    # Of a tensor without numbers there is no copy; the base is without them too, and the fingerprint says so.
    return tensor if tensor.is_meta else tensor.to("cpu", copy=True).contiguous()


def refuse_change(copies: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError where an adapter is no longer what was copied: half of it may be of one optimiser
    step and half of the next.
    """
    changed = [name for name, copy in copies.items() if not _same(copy, now[name])]
    if changed:
        raise CheckpointError(
            f"{', '.join(changed[:5])}: {len(changed)} of {len(copies)} tensors changed while they were"
            " saved, wanted an adapter at rest. Save between two optimiser steps, in the thread that takes"
            " them. Nothing was written."
        )


def _same(copy: Tensor, now: Tensor) -> bool:
    return copy.dtype == now.dtype and torch.equal(copy, now.cpu())


def _dtype(held: Mapping[str, Mapping[str, Tensor]]) -> torch.dtype:
    """The one dtype of all tensors of an adapter, by layer. Raises CheckpointError where there are two."""
    wanted: torch.dtype | None = None
    for target, tensors in held.items():
        for name, tensor in tensors.items():
            wanted = wanted or tensor.dtype
            if tensor.dtype != wanted:
                raise CheckpointError(
                    f"{target}: tensor {name} is {tensor.dtype}, wanted {wanted} as in {next(iter(held))}. "
                    "Cast the whole adapter, or none of it."
                )
    assert wanted is not None, "an adapter has a target, and that a tensor"
    return wanted


def refuse_non_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not all_finite(tensor):
            raise CheckpointError(
                f"{name}: found NaN or Inf, wanted finite numbers to save: the training diverged, or the"
                " adapter was cast to a dtype too narrow for it. Nothing was written."
            )


@gradients_as_before
def load(
    model: nn.Module,
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    dtype: torch.dtype | None = None,
    check_base: bool = True,
) -> list[Adapter]:
    """Attach the adapters of a file written by save; one handle for each, in the order they were attached.

    Tensors are bit-equal to what was saved. No SVD and no calibration is run again. Everything is read and
    checked before the model is touched: on any error it is as before. The file is opened once, so that a
    save to the same place meanwhile does not mix two versions, and it is needed no longer afterwards. What
    the patterns in its config select does not count: it lists its layers.

    dtype       the adapters' dtype: torch.float32, bfloat16, float16 or float64; None as in the file
    check_base  False takes any base whose layers have the right names and shapes, and finite numbers; True
                only the one that the file was made for, bit for bit

    Raises CheckpointError (not a whole, well-formed file for these layers), BaseMismatchError (made for other
    base weights), TargetError (a target carries an adapter already, or is never called; a model that is split
    over processes), ConfigError (dtype), BaseWeightError (a base without numbers, or with NaN or Inf),
    OSError (FileNotFoundError, PermissionError: a file that cannot be read).
    """
    refuse_dtype(dtype, "load")
    named = shown(place := plain_path(path))
    model = attachable(model)
    with opened(place, digest_of) as (header, tensors):
        if check_base:
            check_same_base(named, model, header, _replaced(header))
        adapters = []
        for entry in header["adapters"]:
            adapters.append(rebuild(named, model, entry, tensors, dtype))
        _refuse_unknown(named, tensors)
    parts = dict(plain_modules(model))
    layers = [(name, parts[name], module) for _, own in adapters for name, module in own.items()]
    _refuse_repeated(named, layers)
    _refuse_damage(named, header, tensors.digests)
    # A base that passed the check is the one that attach has looked at.
    if not check_base:
        _look_at(layers)
    return install(model, adapters)


def _refuse_unknown(path: str, left: Collection[str]) -> None:
    """left: what no adapter has taken."""
    if left:
        raise CheckpointError(
            f"{path}: unknown tensors {sorted(left)[:5]}, wanted those of the adapters in its header."
        )


def _refuse_damage(path: str, header: Mapping[str, Any], digests: Mapping[str, str]) -> None:
    # Only once every tensor is read; and the errors before say more than that two digests differ.
    if (found := digest_of_all(header, digests)) != header["digest"]:
        raise CheckpointError(
            f"{path}: what it holds is not what save wrote (digest {found}, the file says"
            f" {header['digest']}): damaged, or changed by hand. Save or copy it again."
        )


def _look_at(layers: Iterable[tuple[str, nn.Module, Variant]]) -> None:
    """Raise BaseWeightError where a base holds NaN or Inf; the modules remember the weights as they are."""
    for name, layer, module in layers:
        with naming(name):
            # In one pass where there is a sketch.
            vars(module)["sketch"] = found = sketch_for(layer, module)
            finite = found is not None and math.isfinite(found.size)
            refuse_non_finite_base(layer, read=False, looked_at=finite)


def _replaced(header: Mapping[str, Any]) -> list[str]:
    """The layers whose own numbers do not count, since an adapter of the file takes their place."""
    variants = ((VARIANTS.get(entry["variant"]), entry["targets"]) for entry in header["adapters"])
    return [target for variant, targets in variants if variant and variant.replaces for target in targets]


def _refuse_repeated(path: object, layers: Sequence[tuple[str, nn.Module, Variant]]) -> None:
    """A layer carries one adapter, under however many names and in however many adapters the file has it."""
    counts = Counter(layer for _, layer, _ in layers)
    if repeated := [name for name, layer, _ in layers if counts[layer] > 1]:
        raise CheckpointError(
            f"{path}: {', '.join(repeated[:5])}: the file has more than one adapter for the same layer."
        )
