"""Where warnings point to: the line of the user's that led to them, and none of lora_lite's."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

import lora_lite as ll
from properties.judging.assertions import assert_holds
from properties.judging.claim import claim
from properties.judging.files import adapted, base, rewrite, saved, scratch_folder
from properties.judging.peft_folders import change_folder, exported


def of_format_2(tensors: dict[str, Any], header: dict[str, Any]) -> None:
    from lora_lite.fingerprint import digest_of, digest_of_all

    header["format"] = 2
    header["base"] = {name: told for name, told in header["base"].items() if not name.startswith("3.")}
    header["digest"] = digest_of_all(header, {name: digest_of(tensor) for name, tensor in tensors.items()})


def with_statistics() -> nn.Module:
    return base().append(nn.BatchNorm1d(6, affine=False))


def lines() -> dict[str, Callable[[], object]]:
    """What warns, by what it says: each with a call that stands in this file."""
    moved: Any = adapted(ll.PiSSAConfig(r=2))
    moved[0].weight.data.neg_()
    thawed: Any = adapted(ll.LoRAConfig(r=2, target_names=("0",)))
    thawed[2].weight.requires_grad_(True)
    narrow = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2), nn.Linear(1, 8))
    return {
        "another than at attach": lambda: into_scratch(lambda folder: ll.save(moved, folder / "file")),
        "another than at attach or load": lambda: into_scratch(lambda folder: ll.export_peft(moved, folder)),
        "require gradients": lambda: into_scratch(lambda folder: ll.save(thawed, folder / "file")),
        "tells nothing of the base's buffers": load_format_2,
        "lora_dropout": import_with_dropout,
        "the rank is lowered": lambda: ll.attach(copy.deepcopy(narrow[:2]), ll.PiSSAConfig(r=4)),
        "layers are left out": lambda: ll.attach(copy.deepcopy(narrow), ll.HRAConfig(r=2)),
    }


def into_scratch(write: Callable[[Any], None]) -> None:
    with scratch_folder() as folder:
        write(folder)


def load_format_2() -> None:
    model = with_statistics()
    ll.attach(fresh := copy.deepcopy(model), ll.LoRAConfig(r=2))
    with saved(fresh) as path:
        rewrite(path, of_format_2)
        ll.load(model, path)


def import_with_dropout() -> None:
    with exported(adapted()) as folder:
        change_folder(folder, lambda tensors, settings: settings.update(lora_dropout=0.1))
        ll.import_peft(base(), folder)


@claim(stage="attach", subject="lora_lite")
def test_warnings_name_the_line_that_led_to_them() -> None:
    """Of attach, save, load, export_peft and import_peft: the file that called them."""
    for what, run in lines().items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run()
        files = {one.filename for one in caught if what in str(one.message)}
        assert_holds(files == {__file__}, claim=f"the warning {what!r} names {files}, wanted {__file__}")
