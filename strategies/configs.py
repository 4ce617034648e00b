"""Recipes of two configs that differ in one setting."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

import lora_lite as ll
from strategies.models import AdaptedModel, BlockRecipe, NestedRecipe
from strategies.options import Options, accepts, own_options, simplest

MODEL = NestedRecipe(tuple(BlockRecipe(8, 12, bias=True) for _ in range(2)), weight="uneven")
# Two settings of each field that every config has.
COMMON: dict[str, tuple[Any, Any]] = {
    "r": (4, 2),
    "alpha": (3.0, 16.0),
    "dtype": ("float32", "bfloat16"),
    "target_names": ((), ("up",)),
    "exclude_names": (("readout",), ("readout", "down")),
    "target_roles": ((), ("writer",)),
    "layers": (None, (1,)),
}


@dataclass(frozen=True)
class Changed:
    """A variant's simplest config with two settings of one field."""

    variant: str
    field: str
    settings: tuple[Any, Any]

    def cases(self) -> tuple[AdaptedModel, AdaptedModel]:
        """A calibrated and trained adapter on MODEL with each of the settings."""
        first, second = (
            AdaptedModel(self.variant, MODEL, self.options(setting), trained=True, calibrated=True)
            for setting in self.settings
        )
        return first, second

    def options(self, setting: Any) -> Options:
        unused = ll.VARIANTS[self.variant].config_class.unused
        usual = dict(simplest(self.variant))
        usual |= {name: COMMON[name][0] for name in ("r", "alpha") if name not in unused}
        return tuple({**usual, "exclude_names": ("readout",), self.field: setting}.items())


def settings_of(variant: str) -> dict[str, tuple[Any, ...]]:
    """The settings worth trying of every field that the variant has; none for a field that declares none."""
    config = ll.VARIANTS[variant].config_class
    names = [field.name for field in dataclasses.fields(config) if field.name not in config.unused]
    return {name: own_options(variant).get(name, COMMON.get(name, ())) for name in names}


def changes(variant: str) -> st.SearchStrategy[Changed]:
    """Each field with the first of its settings and another one."""
    pairs = [(name, (s[0], other)) for name, s in settings_of(variant).items() for other in s[1:]]
    made = [Changed(variant, name, pair) for name, pair in pairs]
    return st.sampled_from(
        [one for one in made if all(accepts(variant, 8, 8, one.options(s)) for s in one.settings)]
    )
