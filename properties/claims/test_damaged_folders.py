"""Folders from anywhere: import_peft takes what was exported, bit for bit, or refuses with a LoraLiteError
and leaves the model alone.
"""

from properties.judging.claim import claim
from properties.judging.damaged_folders import outcome_of, whole_folder
from properties.judging.peft_folders import IN_PEFT
from strategies.damaged_folders import DamagedFolder, damaged_folders


@claim(damaged_folders, stage="load", about=IN_PEFT, subject="lora_lite")
def test_a_damaged_folder_is_refused_or_holds_what_was_exported(case: DamagedFolder) -> None:
    """Whatever was done to the bytes or the JSON of its two files."""
    outcome_of(case, *whole_folder(case.variant))
