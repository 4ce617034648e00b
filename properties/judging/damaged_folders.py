"""Damaged peft folders, and what import_peft makes of them."""

import warnings
from collections.abc import Mapping

from torch import nn

import lora_lite as ll
from properties.judging.files import Tensors, outcome, scratch_folder
from properties.judging.fixed_models import Stack, moved, on
from properties.judging.peft_folders import exported
from properties.subjects import subject
from strategies.damaged_folders import PARTS, DamagedFolder


def whole_folder(variant: str) -> tuple[dict[str, bytes], Tensors, nn.Module]:
    """The files of a valid folder, what it holds, and a base to load it onto."""
    moved(on(model := Stack(), variant))
    with exported(model) as folder:
        ll.import_peft(again := Stack(), folder)
        return {part: (folder / part).read_bytes() for part in PARTS}, subject.tensors(again), Stack()


def outcome_of(case: DamagedFolder, whole: Mapping[str, bytes], written: Tensors, model: nn.Module) -> str:
    """As outcome() of a file. Of two edits one may take the digest away, and one a number: what loads after
    more than one need not be what was exported.
    """
    with scratch_folder() as folder, warnings.catch_warnings():
        # What an edit made of the dropout, say, which import_peft tells of.
        warnings.filterwarnings("ignore", ".* is left out")
        case.lay(folder, whole)
        return outcome(model, folder, written if len(case.edits) == 1 else None, read=ll.import_peft)
