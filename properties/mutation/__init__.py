"""Named silent failures, each a change in the syntax tree of lora_lite's own functions, and what it takes to
inject one and undo it.
"""

from properties.mutation.mutant import Change, Mutant
from properties.mutation.table import CATALOGUE, load_catalogue
from properties.mutation.trees import InjectionError

__all__ = ["CATALOGUE", "Change", "InjectionError", "Mutant", "load_catalogue"]
