"""Recipes of two configs that differ in one setting."""

import dataclasses
import itertools
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

import lora_lite as ll
from strategies.models import AdaptedModel, BlockRecipe, NestedRecipe
from strategies.options import Options, accepts, menu, own_options, simplest

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
        """A calibrated and trained adapter on one model with each of the settings."""
        first, second = (
            AdaptedModel(self.variant, self.model, self.options(setting), trained=True, calibrated=True)
            for setting in self.settings
        )
        return first, second

    @property
    def model(self) -> NestedRecipe:
        """MODEL, in widths that the variant takes with both settings."""
        width, inner = both(self)[0]
        return replace(
            MODEL, blocks=tuple(replace(block, width=width, inner=inner) for block in MODEL.blocks)
        )

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


def both(changed: Changed) -> list[tuple[int, int]]:
    """The (width, inner width) with which a block fits either setting: those of MODEL where they do."""
    first, second = map(changed.options, changed.settings)
    usual = [(block.width, block.inner) for block in MODEL.blocks[:1]]
    dims = {d for options in (first, second) for d in menu(changed.variant, options).dims}
    pairs = [*usual, *itertools.product(sorted(dims), sorted(dims, reverse=True))]

    def fits(pair: tuple[int, int]) -> bool:
        a, b = pair
        if changed.field == "target_roles" and a == b:
            # Readers and writers are told by their widths.
            return False
        return all(
            accepts(changed.variant, a, b, options) and accepts(changed.variant, b, a, options)
            for options in (first, second)
        )

    return list(itertools.islice(filter(fits, pairs), 1))


def changes(variant: str) -> st.SearchStrategy[Changed]:
    """Each field with the first of its settings and another one."""
    pairs = [(name, (s[0], other)) for name, s in settings_of(variant).items() for other in s[1:]]
    made = [Changed(variant, name, pair) for name, pair in pairs]
    return st.sampled_from([one for one in made if both(one)])
