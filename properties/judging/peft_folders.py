"""Folders as peft and lora_lite write them, and the layers that peft makes of one."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.linear import linear_shape
from properties.judging.assertions import assert_close, assert_holds, assert_runs
from properties.judging.files import scratch_folder
from properties.judging.own_bound import own_output
from properties.judging.tolerance import Bounded
from strategies import gaussian
from strategies.peft_folders import EncoderFolder, PeftFolder

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
IN_PEFT = ("lora", "pissa", "dora", "delora", "ia3", "ia3_ff", "hra", "eva")
Tensors = dict[str, Tensor]
Settings = dict[str, Any]


@contextmanager
def exported(model: nn.Module) -> Iterator[Path]:
    """A folder that export_peft made of the model's adapters."""
    with scratch_folder() as folder:
        ll.export_peft(model, folder / "adapter")
        yield folder / "adapter"


def read_by_peft(base: nn.Module, folder: Path) -> nn.Module:
    """The model that peft makes of it, with the names of the plain one.

    A UserWarning is an error: it is what peft says of tensors or settings that it leaves out.
    """
    from peft import PeftModel

    with assert_runs("PeftModel.from_pretrained of an export"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", UserWarning)
        model: Any = PeftModel.from_pretrained(base, folder)
    return model.base_model.model  # type: ignore[no-any-return]


def imported(onto: nn.Module, folder: Path) -> list[ll.Adapter]:
    """The handles that import_peft gives, which has nothing to refuse here."""
    with assert_runs("import_peft of a folder that is right"):
        return ll.import_peft(onto, folder)


@contextmanager
def written_by_peft(case: PeftFolder | EncoderFolder, base: nn.Module) -> Iterator[tuple[nn.Module, Path]]:
    """peft's own adapted model, its tensors moved away from init, and the folder that it saved."""
    import peft

    torch.manual_seed(case.seed)
    with warnings.catch_warnings():
        # A pattern that no layer of this model fits; what cannot be converted afterwards.
        warnings.simplefilter("ignore")
        config = getattr(peft, case.config_class)(**case.keywords())
        model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                step = gaussian(case.seed, name, tuple(parameter.shape))
                parameter.add_(0.5 * step * parameter.shape[-1] ** -0.5)
    # Its README.md is made of a template that takes longer than all else, and says nothing of the numbers.
    with scratch_folder() as folder, patch.object(model, "create_or_update_model_card"):
        model.save_pretrained(folder)
        yield model.base_model.model, folder


def assert_same_layers(
    got: Mapping[str, nn.Module], wanted: nn.Module, names: list[str], seed: int, *, like: str
) -> None:
    """Each of these layers gives on random tokens what its namesake gives, as far as the two computations
    round. got: models by what is said of their layers. wanted: with lora_lite's adapters.
    """
    for name in names:
        layer: Any = wanted.get_submodule(name)
        x = gaussian(seed, name, (5, linear_shape(layer).d_in), layer.weight.dtype)
        bound = own_output(layer, x)
        # Either side rounds.
        twice = Bounded(bound.value, 2 * bound.error)
        for what, model in got.items():
            with torch.no_grad():
                y = model.get_submodule(name)(x)
            assert_close(y, twice, what=f"the output of layer {name}{what}", like=like)


def targets_of(model: nn.Module) -> list[str]:
    return [name for adapter in ll.adapters_of(model) for name in adapter.targets]


def adapted_by_peft(model: nn.Module) -> list[str]:
    """The layers that peft has put its own in the place of."""
    return [name for name, module in model.named_modules() if hasattr(module, "base_layer")]


def assert_same_targets(got: list[str], wanted: list[str], what: str) -> None:
    found = f"{what} adapts {sorted(got)}, wanted {sorted(wanted)}"
    assert_holds(sorted(got) == sorted(wanted), claim=found)


def change_folder(folder: Path, change: Callable[[Tensors, Settings], Any]) -> None:
    """Write both files again after a change, as somebody without lora_lite would: nothing in the metadata."""
    tensors, settings = load_file(folder / TENSORS), json.loads((folder / CONFIG).read_text())
    change(tensors, settings)
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, folder / TENSORS)
    (folder / CONFIG).write_text(json.dumps(settings))
