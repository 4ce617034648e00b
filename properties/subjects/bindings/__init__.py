"""Which tensor of a library is which symbol of an oracle, and which setting is which: a file a library."""

from properties.subjects.bindings import lycoris, others, own, peft
from properties.subjects.bindings.binding import Binding

BINDINGS: dict[str, Binding] = {**peft.BINDINGS, **lycoris.BINDINGS, **others.BINDINGS, **own.BINDINGS}


def binding_of(full: str) -> Binding | None:
    """Of a method by its full name, or of what it is with a switch thrown; None: no formula yet."""
    return BINDINGS.get(full) or BINDINGS.get(full.partition("+")[0])
