"""What can be judged, and how a case of it is run and observed."""

from properties.subjects.lora_lite import LoraLite
from properties.subjects.protocol import Subject

# The library that is judged.
subject: Subject = LoraLite()

__all__ = ["subject"]
