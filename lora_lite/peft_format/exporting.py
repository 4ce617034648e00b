"""export_peft: the adapters of a model as a peft folder."""

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lora_lite.atomic import gradients_as_before
from lora_lite.checkpoint import copied, refuse_change, refuse_non_finite, refuse_pieces
from lora_lite.errors import CheckpointError, TargetError
from lora_lite.fingerprint import fingerprint
from lora_lite.handle import attached, unwrapped
from lora_lite.names import plain_modules
from lora_lite.parallel import shard
from lora_lite.peft_format import saved_modules
from lora_lite.peft_format.folder import PREFIX, write_folder
from lora_lite.peft_format.methods import written_as
from lora_lite.peft_format.patterns import ends, only
from lora_lite.peft_format.tasks import told_of
from lora_lite.spec import Variant
from lora_lite.writing import plain_path


@gradients_as_before
def export_peft(model: nn.Module, folder: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None:
    """Write the adapters on `model` as a folder that peft's PeftModel.from_pretrained(base, folder) and
    ll.import_peft read, with the same outputs to rounding: adapter_config.json and adapter_model.safetensors.

    lora and eva are written as LORA, pissa and delora (init="frozen_copy") as the LORA of rank 2 r that they
    are, dora as LORA with use_dora, delora (init="zero_b") as DELORA, hra as HRA, ia3 and ia3_ff together as
    IA3; full layers beside any of them as modules_to_save. Ranks and alphas of single layers are kept, and
    layers are named in full; task_type is told where the model's class and the layers saved whole are those
    of a task, and auto_mapping elsewhere. The folder is made where there is none; other files in it stay.
    Each of the two is replaced in one step, the config right after the tensors; a digest of both shows
    import_peft where one is from another export.

    Raises NotAttachedError; CheckpointError where peft cannot have it: another variant, adapters of two of
    its methods on one model, HRA of two ranks, the model itself as a layer, a layer that has two names, rows
    of zeros on which peft divides by zero; TargetError on a model split over processes; and what save raises.
    """
    place = plain_path(folder)
    model = unwrapped(model)
    modules: dict[str, Variant] = {}
    for adapter in attached(model):
        modules |= adapter.layers()
    named = dict(plain_modules(model))
    refuse_pieces(named, modules)
    _refuse_unreachable(named, modules)
    live = _tensors(modules)
    if shard(model) is not None:
        raise TargetError(
            "found a model that is split over processes, wanted a whole one: call ll.save in every process,"
            " then load and export in one."
        )
    whole = {name: copied(tensor.detach()) for name, tensor in live.items()}
    refuse_non_finite(whole)
    config, held = _written(model, named, modules)
    tensors = {f"{PREFIX}{name}": copied(tensor.detach()) for name, tensor in held.items()}
    refuse_non_finite(tensors)
    base = fingerprint(model, without=config["modules_to_save"] or ())
    refuse_change(whole, live)
    write_folder(place, config, base, tensors)


def _tensors(modules: Mapping[str, Variant]) -> dict[str, Tensor]:
    """The adapters' own, as they are, by layer and name."""
    return {
        f"{name}.{own}": tensor
        for name, module in modules.items()
        for own, tensor in module.state_dict(keep_vars=True).items()
    }


def _written(
    model: nn.Module, named: Mapping[str, nn.Module], modules: Mapping[str, Variant]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config, and the tensors by layer and suffix."""
    whole = {name: (named[name], module) for name, module in modules.items() if module.name == "full"}
    adapted = {name: module for name, module in modules.items() if name not in whole}
    if not adapted:
        raise CheckpointError(
            f"found nothing but whole layers ({', '.join(whole)}), wanted an adapter beside them: peft's"
            " modules_to_save are part of one. Save with ll.save, or attach an adapter too."
        )
    method = written_as(adapted)
    settings, tensors = method.written({name: (named[name], module) for name, module in adapted.items()})
    # peft takes any module for one to save, and knows none of ours.
    names = [name for name, module in named.items() if not isinstance(module, Variant)]
    common = _common(model, named, adapted) | told_of(model, names, whole)
    config = {**common, **settings, "modules_to_save": sorted(whole) or None, "peft_type": method.peft_type}
    return config, tensors | saved_modules.written(whole, names, adapted)


def _refuse_unreachable(named: Mapping[str, nn.Module], modules: Mapping[str, Variant]) -> None:
    """Raise CheckpointError on a layer that peft would not adapt wherever it is called."""
    names = Counter(map(id, named.values()))
    for name in modules:
        if not name:
            raise CheckpointError(
                "the model itself is the layer, wanted a layer inside of one, as peft does."
            )
        if names[id(named[name])] > 1:
            others = [other for other, module in named.items() if module is named[name] and other != name]
            raise CheckpointError(
                f"{name}: found the same layer at {others[0]} too, wanted a layer of one name: peft adapts it"
                " where it is called by that name alone."
            )


def _common(
    model: nn.Module, named: Mapping[str, nn.Module], modules: Mapping[str, Variant]
) -> dict[str, Any]:
    """The settings that all methods have. Layers are named in full, and no other is meant by that."""
    meant = {name for name in named if not modules.keys().isdisjoint(ends(name))}
    origin = getattr(getattr(model, "config", None), "_name_or_path", None)
    return {
        "base_model_name_or_path": origin if isinstance(origin, str) and origin else None,
        "inference_mode": True,
        # In a list any end of a name counts.
        "target_modules": sorted(modules) if meant == modules.keys() else only(modules),
    }
