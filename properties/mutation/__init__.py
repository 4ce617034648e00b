"""Named silent failures, each a change of lora_lite's own source, and what it takes to inject one and undo
it.
"""

from properties.mutation.mutant import (
    CATALOGUE,
    Change,
    InjectionError,
    Mutant,
    change,
    load_catalogue,
    mutant,
)

__all__ = ["CATALOGUE", "Change", "InjectionError", "Mutant", "change", "load_catalogue", "mutant"]
