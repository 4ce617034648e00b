"""Settings that cannot work: what every config, and every layer of a shape, must refuse."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st

import lora_lite as ll
from strategies.options import Options, build_config

# Of the fields that every config has; a variant's own fields declare theirs, in option(wrong=…).
WRONG: dict[str, tuple[Any, ...]] = {
    "r": (None, 0, -1, 0.5, True, "eight"),
    "alpha": (None, 0, -1, True, math.nan, math.inf, 1e-60, 1e60, "eight"),
    "dtype": (None, torch.int8, "eight"),
    "target_names": (None, -1, ("",), ("*up",)),
    "exclude_names": (None, -1, ("",), ("*up",)),
    "target_roles": (None, -1, "eight"),
    "layers": (0, (), (0, -1), (True,), "eight"),
}


def wrong_values(variant: str) -> dict[str, tuple[Any, ...]]:
    """What each field that the variant has must refuse, whatever the others hold; nothing for a field that
    declares nothing.
    """
    config = ll.VARIANTS[variant].config_class
    fields = [field for field in dataclasses.fields(config) if field.name not in config.unused]
    return {field.name: field.metadata.get("wrong", WRONG.get(field.name, ())) for field in fields}


@dataclass(frozen=True)
class Refused:
    """A variant's options, what `field` gets instead, and a layer's shape; one of them cannot be.

    wrong: the repr of one of wrong_values(), since a recipe is JSON and holds no NaN.
    field: what the message has to name; "" where it is the shape, and the message has to name the layer.
    """

    variant: str
    field: str
    wrong: str = ""
    options: Options = ()
    d_in: int = 8
    d_out: int = 8

    def config(self) -> ll.AdapterConfig:
        if self.wrong:
            values = {repr(value): value for value in wrong_values(self.variant)[self.field]}
            return ll.VARIANTS[self.variant].config_class(**{self.field: values[self.wrong]})
        return build_config(self.variant, self.options)


# What is fine by itself and cannot work together, or on a layer of this shape.
TOGETHER = (
    Refused("hra", "r", options=(("r", 3),)),
    Refused("antipasto", "r", options=(("r", 6), ("block_size", 4))),
    Refused("delora", "lambda_init", options=(("init", "zero_b"), ("lambda_init", 0.0))),
    Refused("delora", "dtype", options=(("init", "zero_b"), ("dtype", "float16"))),
    Refused("pissa", "", options=(("r", 5),), d_in=4),
    Refused("pissa", "", options=(("r", 5),), d_out=4),
    Refused("eva", "", options=(("r", 5),), d_in=4),
    Refused("eva", "", options=(("r", 5),), d_out=4),
    Refused("antipasto", "", options=(("r", 8),), d_in=4),
    Refused("antipasto", "", options=(("r", 8),), d_out=4),
    Refused("hra", "", options=(("r", 2),), d_in=1),
    Refused("delora", "", d_in=1, d_out=1),
)


def refused(variant: str) -> st.SearchStrategy[Refused]:
    """Every wrong value of every field that the variant has, and what cannot work together."""
    alone = [
        Refused(variant, name, repr(wrong))
        for name, values in wrong_values(variant).items()
        for wrong in values
    ]
    return st.sampled_from([*alone, *(case for case in TOGETHER if case.variant == variant)])
